//! The emulator by itself: how much longer than stated a round trip takes, and how much of a core
//! a gigabit costs.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use dwcp_testbed::wan::{Bed, Links, Shape};
use tokio::time::Instant;

use super::super::Measurement;
use super::super::latency::Latencies;
use super::{REGIONS, one};

const PORT: u16 = 9_000;
/// Round trips of each of the twenty ways.
const ROUNDS: u32 = 40;
const ROUNDS_QUICK: u32 = 5;
/// A packet that is away so long is lost, and nothing may be.
const LOST_AFTER: Duration = Duration::from_secs(2);
/// How often an echo looks whether it should end.
const LOOK: Duration = Duration::from_millis(100);
/// The wide way: its rate and its queue, a fifth of a second of it.
const RATE_MBPS: u32 = 1_000;
const QUEUE_BYTES: u64 = 25_000_000;
/// How long TCP may take to fill the way, and how long it is measured.
const RAMP: Duration = Duration::from_secs(3);
const STEADY: Duration = Duration::from_secs(6);

/// Measures both.
pub(super) fn measure(
    bed: &Bed,
    links: &Links,
    quick: bool,
) -> anyhow::Result<Vec<Measurement>> {
    let rounds = if quick { ROUNDS_QUICK } else { ROUNDS };
    let mut measured = round_trips(bed, links, rounds)?;
    measured.extend(throughput(bed)?);
    Ok(measured)
}

fn round_trips(
    bed: &Bed,
    links: &Links,
    rounds: u32,
) -> anyhow::Result<Vec<Measurement>> {
    // What came before is not counted.
    drop(bed.report());
    let done = AtomicBool::new(false);
    let mut errors = Latencies::default();
    std::thread::scope(|scope| {
        for region in REGIONS {
            let echo =
                bed.inside(region, || UdpSocket::bind((bed.address(region), PORT)));
            let (echo, done) = (echo?, &done);
            scope.spawn(move || answer(&echo, done));
        }
        let mut flows = Vec::new();
        for from in REGIONS {
            for to in REGIONS.into_iter().filter(|to| *to != from) {
                let socket =
                    bed.inside(from, || UdpSocket::bind((bed.address(from), 0)))?;
                let (to, rtt) = (bed.address(to), links.rtt(from, to));
                flows.push(
                    scope.spawn(move || ping(&socket, (to, PORT).into(), rtt, rounds)),
                );
            }
        }
        for flow in flows {
            errors.join(flow.join().map_err(|_| anyhow::anyhow!("a flow failed"))??);
        }
        done.store(true, Ordering::Relaxed);
        anyhow::Ok(())
    })
    .inspect_err(|_| done.store(true, Ordering::Relaxed))?;
    let late = bed.report().lateness;
    let method = format!(
        "{} round trips of UDP, twenty flows at once over the ten pairs of T1: how much longer \
         than the stated 76 to 340 ms, with both ends' own threads; packets left at most {} us \
         late (p99 {} us)",
        errors.len(),
        late.max_us,
        late.p99_us
    );
    Ok(vec![
        one("rtt.error.p50", errors.percentile_ms(50), "ms", method.clone()),
        one("rtt.error.p99", errors.percentile_ms(99), "ms", method),
    ])
}

/// Sends back what comes.
fn answer(socket: &UdpSocket, done: &AtomicBool) -> anyhow::Result<()> {
    socket.set_read_timeout(Some(LOOK))?;
    let mut word = [0; 8];
    while !done.load(Ordering::Relaxed) {
        if let Ok((length, from)) = socket.recv_from(&mut word) {
            socket.send_to(&word[..length], from)?;
        }
    }
    Ok(())
}

/// How much longer than stated each of some round trips took.
fn ping(
    socket: &UdpSocket,
    to: SocketAddr,
    rtt: Duration,
    rounds: u32,
) -> anyhow::Result<Latencies> {
    socket.set_read_timeout(Some(LOST_AFTER))?;
    let mut errors = Latencies::default();
    for _ in 0..rounds {
        let sent = Instant::now();
        socket.send_to(&[0; 8], to)?;
        socket.recv_from(&mut [0; 8]).context("a packet was lost")?;
        errors.add(sent.elapsed().saturating_sub(rtt));
    }
    Ok(errors)
}

/// One TCP connection over a way of a gigabit.
fn throughput(bed: &Bed) -> anyhow::Result<Vec<Measurement>> {
    let (from, to) = (REGIONS[0], REGIONS[1]);
    let shape = Shape::delay(Duration::from_millis(38));
    let shape = shape.rate_mbps(RATE_MBPS).queue_bytes(QUEUE_BYTES);
    bed.shape(from, to, shape);
    bed.shape(to, from, shape);
    let address = (bed.address(to), PORT);
    let listener = bed.inside(to, || TcpListener::bind(address))?;
    let (received, cpu) = std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let stream = bed.inside(from, || TcpStream::connect(address))?;
            send_until_closed(stream);
            anyhow::Ok(())
        });
        let (mut stream, _) = listener.accept()?;
        receive(&mut stream, RAMP)?;
        let before = bed.report().cpu_us;
        let received = receive(&mut stream, STEADY)?;
        let cpu_us = bed.report().cpu_us - before;
        drop(stream);
        sender.join().map_err(|_| anyhow::anyhow!("the sender failed"))??;
        anyhow::Ok((received, Duration::from_micros(cpu_us)))
    })?;
    let seconds = STEADY.as_secs_f64();
    let bits = f64::from(u32::try_from(received / 1_000)?) * 8e3;
    let method = format!(
        "one TCP connection over 76 ms and {RATE_MBPS} Mbit/s for {seconds} s, after {} s to \
         begin; payload received",
        RAMP.as_secs()
    );
    Ok(vec![
        one("throughput", bits / seconds / 1e6, "Mbit/s", method.clone()),
        one("throughput.cpu", cpu.as_secs_f64() / seconds * 100.0, "% core", method),
    ])
}

/// Writes until the other end has closed.
fn send_until_closed(mut stream: TcpStream) {
    let block = vec![0x5A; 1 << 18];
    while stream.write_all(&block).is_ok() {}
}

/// Reads for a time; gives the bytes that came.
fn receive(stream: &mut TcpStream, time: Duration) -> anyhow::Result<u64> {
    let (begun, mut block, mut received) = (Instant::now(), vec![0; 1 << 18], 0);
    while begun.elapsed() < time {
        received += u64::try_from(stream.read(&mut block)?)?;
    }
    Ok(received)
}
