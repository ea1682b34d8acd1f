//! Our name server on one thread.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc;

use anyhow::{Context, anyhow};
use dwcp_edge::dns::{
    Addresses, Listening, Name, NameServer, Server, View, Zone, ZoneSpec,
};
use dwcp_edge::{Clients, Network, Steering};
use dwcp_router::{FailMode, Standing, Table};
use rustix::time::ClockId;
use tokio::sync::{oneshot, watch};

use super::load::Load;
use super::{NAMES, Net, ZONE, loopback};
use crate::bench::nanos::{float, now};
use crate::bench::routing::world::world;

/// Answers for a second of CPU time.
pub(super) fn round(nets: &[Net], load: &Load) -> anyhow::Result<f64> {
    let view = Arc::new(view(nets)?);
    let (said, heard) = mpsc::channel();
    let (stop, stopped) = oneshot::channel();
    let server = std::thread::spawn(move || serve(view, &said, stopped));
    // When it could not be bound the thread has ended and says why.
    let completed = match heard.recv() {
        Ok(address) => load.ask(address),
        Err(_) => Ok(0.0),
    };
    drop(stop);
    let nanos = server.join().map_err(|_| anyhow!("the name server panicked"))??;
    Ok(completed? / (float(nanos) / 1e9))
}

/// Answers until told to stop; the CPU time that it took.
fn serve(
    view: Arc<View>,
    said: &mpsc::Sender<SocketAddr>,
    stopped: oneshot::Receiver<()>,
) -> anyhow::Result<u64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let address = SocketAddr::new(loopback(), 0);
        let listening = Listening { address, answers_per_second: None };
        let server = Server::bind(listening).await?;
        said.send(server.address()?).context("nobody asks")?;
        let (_views, newest) = watch::channel(view);
        let start = now(ClockId::ThreadCPUTime);
        tokio::select! {
            () = server.run(newest) => {}
            _ = stopped => {}
        }
        Ok(now(ClockId::ThreadCPUTime) - start)
    })
}

fn view(nets: &[Net]) -> anyhow::Result<View> {
    let mut inputs = world(0);
    // Everybody has an answer, as from gdnsd.
    inputs.services.iter_mut().for_each(|service| service.fail = FailMode::Open);
    let table = Table::build(inputs, 1, None).map_err(|why| anyhow!("{why:?}"))?;
    let networks: Vec<Network> = nets
        .iter()
        .map(|net| Network { address: net.base.into(), len: net.len, cell: net.cell })
        .collect();
    let regions = table.inputs().sites.iter().zip(1_u8..);
    let addresses: BTreeMap<_, _> = regions
        .map(|(site, last)| {
            let ipv4 = Some([203, 0, 113, last].into());
            (site.id.clone(), Addresses { ipv4, ipv6: None })
        })
        .collect();
    let services = table.inputs().services.iter().take(NAMES.into()).zip(0..NAMES);
    let apex: Name = ZONE.parse()?;
    let names = services
        .map(|(service, at)| Ok((apex.under(&format!("s{at}"))?, service.id.clone())))
        .collect::<anyhow::Result<_>>()?;
    let server = NameServer {
        name: apex.under("ns1")?,
        addresses: Addresses { ipv4: Some([203, 0, 113, 53].into()), ipv6: None },
    };
    let zone = Zone::new(ZoneSpec {
        contact: apex.under("hostmaster")?,
        name_servers: vec![server],
        names,
        answers: 1,
        identity: String::new(),
        apex,
    })?;
    let steering = Steering {
        table: Arc::new(table),
        standing: Standing::ALL,
        clients: Arc::new(Clients::new(&networks, 0)),
    };
    Ok(View::new(Arc::new(zone), Some((steering, addresses))))
}
