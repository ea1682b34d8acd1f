//! The thread between the regions' devices: reads packets, asks the fabric, writes them when
//! they are due, and follows orders in between.
//!
//! It runs at real-time priority where that is allowed, because a packet that leaves late is a
//! wrong measurement for whoever is behind it; the report says how late packets left.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use dwcp_runtime::clock::{Clock, SystemClock};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::time::{ClockId, clock_gettime};
use tun_rs::SyncDevice;

use super::fabric::{Fabric, Site};
use super::order::{Order, OrderError, Report};
use super::packet;

/// Packets read from one device before the others have their turn.
const BATCH: usize = 16;
/// Buffers kept for packets to come.
const SPARE_MAX: usize = 256;
/// Orders that wait.
const ORDERS_MAX: usize = 64;
/// Above all normal threads, below the kernel's own.
const PRIORITY: &str = "10";

type Answer = Result<Option<Report>, OrderError>;

enum Message {
    Order(Order, SyncSender<Answer>),
    End,
}

/// Gives orders to the emulator.
#[derive(Clone, Debug)]
pub(crate) struct Orders {
    messages: SyncSender<Message>,
    wake: Arc<OwnedFd>,
}

impl Orders {
    /// Has an order followed; when this returns, it has taken effect.
    pub(crate) fn give(&self, order: Order) -> Answer {
        let (answer, answered) = sync_channel(1);
        self.send(Message::Order(order, answer))?;
        answered.recv().map_err(|_| OrderError::Ended)?
    }

    fn send(&self, message: Message) -> Result<(), OrderError> {
        self.messages.send(message).map_err(|_| OrderError::Ended)?;
        // One more makes a descriptor readable; it cannot overflow with a bounded queue.
        let woken = rustix::io::write(&*self.wake, &1_u64.to_ne_bytes());
        woken.map(drop).map_err(|_| OrderError::Ended)
    }
}

/// The running emulator; ends when dropped.
#[derive(Debug)]
pub(crate) struct Emulator {
    orders: Orders,
    thread: Option<JoinHandle<()>>,
}

impl Emulator {
    /// Starts it between these devices, in the order of the fabric's regions.
    pub(crate) fn start(
        fabric: Fabric<Vec<u8>>,
        devices: Vec<SyncDevice>,
        offload: bool,
    ) -> io::Result<Self> {
        for device in &devices {
            device.set_nonblocking(true)?;
        }
        let wake = Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?);
        let (messages, inbox) = sync_channel(ORDERS_MAX);
        let orders = Orders { messages, wake: Arc::clone(&wake) };
        let hub = Hub {
            fabric,
            devices,
            offload,
            clock: SystemClock::new(),
            spare: Vec::new(),
            buffer: vec![0; packet::PACKET_MAX],
        };
        let thread = std::thread::Builder::new().name("wan".to_owned());
        let thread = thread.spawn(move || hub.run(&wake, &inbox))?;
        Ok(Self { orders, thread: Some(thread) })
    }

    pub(crate) const fn orders(&self) -> &Orders {
        &self.orders
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // When it has ended already there is nobody to tell.
        self.orders.send(Message::End).ok();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// What the thread owns.
struct Hub {
    fabric: Fabric<Vec<u8>>,
    devices: Vec<SyncDevice>,
    offload: bool,
    clock: SystemClock,
    spare: Vec<Vec<u8>>,
    buffer: Vec<u8>,
}

impl Hub {
    fn run(mut self, wake: &OwnedFd, inbox: &Receiver<Message>) {
        prefer_this_thread();
        loop {
            let now = self.deliver();
            let due = self.fabric.next_due().map(|due| due.saturating_sub(now));
            let Ok((woken, readable)) = self.wait(wake, due) else { return };
            if woken && !self.obey(wake, inbox) {
                return;
            }
            for site in readable {
                self.collect(site);
            }
        }
    }

    /// Writes all that is due; gives the moment after which nothing is.
    fn deliver(&mut self) -> Duration {
        loop {
            let now = self.clock.monotonic();
            let Some((site, packet)) = self.fabric.leave(now) else { return now };
            if self.devices[site.0].send(&packet).is_err() {
                self.fabric.refuse();
            }
            if self.spare.len() < SPARE_MAX {
                self.spare.push(packet);
            }
        }
    }

    /// Waits for packets, orders, or the time when the next packet is due.
    fn wait(
        &self,
        wake: &OwnedFd,
        due: Option<Duration>,
    ) -> io::Result<(bool, Vec<Site>)> {
        let mut watched = vec![PollFd::from_borrowed_fd(wake.as_fd(), PollFlags::IN)];
        let device = |device| PollFd::new(device, PollFlags::IN);
        watched.extend(self.devices.iter().map(device));
        let timeout = due.map(|due| Timespec {
            tv_sec: i64::try_from(due.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: due.subsec_nanos().into(),
        });
        match poll(&mut watched, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let is_readable = |fd: &PollFd<'_>| fd.revents().contains(PollFlags::IN);
        let sites = watched[1..].iter().enumerate().filter(|(_, fd)| is_readable(fd));
        Ok((is_readable(&watched[0]), sites.map(|(site, _)| Site(site)).collect()))
    }

    /// Follows all orders that wait; false when told to end.
    fn obey(&mut self, wake: &OwnedFd, inbox: &Receiver<Message>) -> bool {
        // Only its becoming readable counts, not how often it was written.
        rustix::io::read(wake, &mut [0; 8]).ok();
        loop {
            match inbox.try_recv() {
                Ok(Message::Order(order, answer)) => {
                    let reported = |report| Report { cpu_us: cpu_us(), ..report };
                    let done = self.fabric.obey(&order);
                    // Whoever asked may have given up.
                    answer.send(done.map(|report| report.map(reported))).ok();
                }
                Err(TryRecvError::Empty) => return true,
                Ok(Message::End) | Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    /// Reads what a region sends.
    fn collect(&mut self, from: Site) {
        for _ in 0..BATCH {
            // Empty, or the device is going down: both are seen again at the next wait.
            let Ok(length) = self.devices[from.0].recv(&mut self.buffer) else { return };
            let read = &self.buffer[..length];
            let Some(about) = packet::read(read, self.offload) else { continue };
            let mut copy = self.spare.pop().unwrap_or_default();
            copy.clear();
            copy.extend_from_slice(read);
            // What is dropped is counted by the fabric.
            self.fabric.enter(self.clock.monotonic(), from, about, copy).ok();
        }
    }
}

/// What the calling thread has used of a core.
fn cpu_us() -> u64 {
    let used = clock_gettime(ClockId::ThreadCPUTime);
    let micros = used.tv_sec * 1_000_000 + used.tv_nsec / 1_000;
    u64::try_from(micros).unwrap_or_default()
}

/// Puts the calling thread above normal ones and lets its timers be exact, where allowed.
fn prefer_this_thread() {
    let exact = std::num::NonZeroU64::MIN;
    rustix::thread::set_current_timer_slack(Some(exact)).ok();
    let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
    // The tool, because the call itself has no safe binding; where it is refused the thread
    // keeps its priority and the report shows what that costs.
    Command::new("chrt")
        .args(["--fifo", "--pid", PRIORITY, &thread])
        .stdin(Stdio::null())
        .output()
        .ok();
}
