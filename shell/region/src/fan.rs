//! Asks several regions the same at once, each for its part of an answer.

use std::time::Duration;

use dwcp_api::{Client, Operation};
use dwcp_types::RegionId;
use futures_util::future::join_all;

/// The parts of those that answered within `time_max`, and who did not.
pub(crate) async fn ask_each<'a, O>(
    peers: impl Iterator<Item = (&'a RegionId, &'a Client)>,
    params: &O::Params,
    time_max: Duration,
) -> (Vec<O::Reply>, Vec<RegionId>)
where
    O: Operation<Body = ()>,
{
    let asked = peers.map(|(region, peer)| async move {
        let peer = peer.clone().with_call_time_max(time_max);
        peer.call::<O>(params, &()).await.map_err(|_| region.clone())
    });
    let (mut parts, mut missing) = (Vec::new(), Vec::new());
    for answer in join_all(asked).await {
        match answer {
            Ok(part) => parts.push(part),
            Err(region) => missing.push(region),
        }
    }
    (parts, missing)
}
