//! The first words on a connection, up to the point where it counts.
//!
//! The end that dialled says hello, the other says hello, the deciding end confirms. Until then
//! only small blocks may come, and whatever is wrong ends the connection with a reason.

use super::block::{Block, Stage, encode_hello};
use super::hello::Hello;
use super::link::Link;
use super::pair::Pair;
use super::{End, LinkError, Reason};

/// A connection on which both ends have said hello.
#[derive(Debug)]
pub(super) struct Greeted {
    pub(super) link: Link,
    pub(super) hello: Hello,
    /// The number under which the peer has confirmed it; `None` where this end decides.
    pub(super) number: Option<u64>,
}

/// Greets on a connection that this end has dialled.
pub(super) async fn dialled(mut link: Link, pair: &Pair) -> Result<Greeted, LinkError> {
    let greeted = async {
        say_hello(&mut link, pair).await?;
        let hello = hear_hello(&mut link, pair).await?;
        Ok((hello, hear_confirmation(&mut link, pair).await?))
    };
    match greeted.await {
        Ok((hello, number)) => Ok(Greeted { link, hello, number }),
        Err(error) => Err(close(link, error).await),
    }
}

/// Greets on a connection that the peer has dialled.
pub(super) async fn accepted(mut link: Link, pair: &Pair) -> Result<Greeted, LinkError> {
    let greeted = async {
        let hello = hear_hello(&mut link, pair).await?;
        say_hello(&mut link, pair).await?;
        Ok((hello, hear_confirmation(&mut link, pair).await?))
    };
    match greeted.await {
        Ok((hello, number)) => Ok(Greeted { link, hello, number }),
        Err(error) => Err(close(link, error).await),
    }
}

async fn say_hello(link: &mut Link, pair: &Pair) -> Result<(), LinkError> {
    encode_hello(&pair.hello(), &mut link.writer.out);
    link.writer.flush().await
}

async fn hear_hello(link: &mut Link, pair: &Pair) -> Result<Hello, LinkError> {
    let Block::Hello(hello) = hear(link).await? else {
        return Err(LinkError::here(Reason::Malformed, "no hello"));
    };
    if hello.cluster == pair.own.cluster {
        return Ok(hello);
    }
    let (me, peer) = (&pair.own.me, pair.region());
    let detail = format!("{me} is of {}, {peer} of {}", pair.own.cluster, hello.cluster);
    Err(LinkError::here(Reason::OtherCluster, detail))
}

async fn hear_confirmation(
    link: &mut Link,
    pair: &Pair,
) -> Result<Option<u64>, LinkError> {
    if pair.decides() {
        return Ok(None);
    }
    let Block::Confirm(number) = hear(link).await? else {
        return Err(LinkError::here(Reason::Malformed, "no confirmation"));
    };
    Ok(Some(number))
}

/// The next block; a close is an error.
async fn hear(link: &mut Link) -> Result<Block, LinkError> {
    let block = link.reader.next(Stage::Greeting).await?;
    if let Block::Close { reason, detail } = block {
        return Err(LinkError::there(reason, detail));
    }
    Ok(block)
}

/// Tells the other end what this end found wrong.
async fn close(link: Link, error: LinkError) -> LinkError {
    if let LinkError::Closed { by: End::Here, reason, detail } = &error {
        link.close(*reason, detail).await;
    }
    error
}
