//! `routing`: where requests go (O4, DETAILS 2.3).

use std::fs::File;
use std::io::BufReader;

use dwcp_api::NoParams;
use dwcp_api::public::RegionParams;
use dwcp_api::routing::{
    ConfigureRouting, Endpoint, ExplainRouting, GetAnycast, GetRouting,
    GetRoutingLatency, PutRouting, PutRoutingEndpoint, ReplayRequest, ReplayRouting,
    RoutingQuestion,
};
use dwcp_router::Requirement;
use dwcp_types::{Mbps, Micros};

use super::{show, show_or_watch};
use crate::app::Run;
use crate::arguments::{
    AlgorithmCommand, AnycastCommand, ConfigCommand, EndpointArgs, EndpointCommand,
    LatencyCommand, LimitsArgs, QuestionArgs, ReplayArgs, RoutingCommand, ScoresArgs,
    SetAlgorithmArgs, SimulateArgs,
};
use crate::failure::Failure;
use crate::{traffic, view};

/// Carries a routing command out.
pub(super) async fn routing(
    run: &mut Run<'_>,
    command: RoutingCommand,
) -> Result<(), Failure> {
    match command {
        RoutingCommand::Algorithm(AlgorithmCommand::Set(args))
        | RoutingCommand::Configure(args) => configure(run, args).await,
        RoutingCommand::Endpoint(EndpointCommand::Add(args)) => endpoint(run, args).await,
        RoutingCommand::Endpoint(EndpointCommand::List) => {
            let session = run.session()?;
            let reply = session.call::<GetRouting>(&NoParams {}, &()).await?;
            show(run, &reply, view::routing_endpoints)
        }
        RoutingCommand::Scores(args) => scores(run, args).await,
        RoutingCommand::Explain(args) => {
            let question = question(args)?;
            let session = run.session()?;
            let reply = session.call::<ExplainRouting>(&NoParams {}, &question).await?;
            show(run, &reply, view::routing_explained)
        }
        RoutingCommand::Simulate(args) => simulate(run, args).await,
        RoutingCommand::Replay(args) => replay(run, args).await,
        RoutingCommand::Latency(LatencyCommand::Matrix(watch)) => {
            let session = run.session()?;
            let ask = async |_: &Run<'_>| {
                session.call::<GetRoutingLatency>(&NoParams {}, &()).await
            };
            show_or_watch(run, watch, ask, view::routing_latency).await
        }
        RoutingCommand::Anycast(AnycastCommand::List(watch)) => {
            let session = run.session()?;
            let ask =
                async |_: &Run<'_>| session.call::<GetAnycast>(&NoParams {}, &()).await;
            show_or_watch(run, watch, ask, view::routing_anycast).await
        }
        RoutingCommand::Config(ConfigCommand::Show) => {
            let session = run.session()?;
            let reply = session.call::<GetRouting>(&NoParams {}, &()).await?;
            show(run, &reply, view::routing_config)
        }
    }
}

async fn configure(run: &mut Run<'_>, args: SetAlgorithmArgs) -> Result<(), Failure> {
    let body = ConfigureRouting { algorithm: args.algorithm.chosen() };
    let reply = run.session()?.call::<PutRouting>(&NoParams {}, &body).await?;
    show(run, &reply, view::routing_config)
}

async fn endpoint(run: &mut Run<'_>, args: EndpointArgs) -> Result<(), Failure> {
    let params = RegionParams { region: args.region };
    let body = Endpoint {
        ip: args.ip,
        ipv6: args.ipv6,
        port: args.port,
        capacity: args.capacity.map(Mbps::new),
        weight: args.weight,
    };
    let reply = run.session()?.call::<PutRoutingEndpoint>(&params, &body).await?;
    show(run, &reply, view::routing_endpoints)
}

async fn scores(run: &mut Run<'_>, args: ScoresArgs) -> Result<(), Failure> {
    let question = question(args.question)?;
    let session = run.session()?;
    let ask =
        async |_: &Run<'_>| session.call::<ExplainRouting>(&NoParams {}, &question).await;
    let shown = if args.verbose { view::routing_factors } else { view::routing_scores };
    show_or_watch(run, args.watch, ask, shown).await
}

async fn simulate(run: &mut Run<'_>, args: SimulateArgs) -> Result<(), Failure> {
    let question = RoutingQuestion {
        service: Some(args.destination),
        class: args.class.into(),
        source_ip: Some(args.source_ip),
        ..RoutingQuestion::default()
    };
    let session = run.session()?;
    let reply = session.call::<ExplainRouting>(&NoParams {}, &question).await?;
    show(run, &reply, view::routing_decision)
}

async fn replay(run: &mut Run<'_>, args: ReplayArgs) -> Result<(), Failure> {
    let name = args.log.display().to_string();
    let Some(algorithm) = args.algorithm.chosen() else {
        let what = "a replay compares with an algorithm, and `file` is none";
        return Err(Failure::usage(what).with_remedy("name one, such as `cost`"));
    };
    let log = File::open(&args.log).map_err(|error| {
        Failure::usage(format!("cannot read {name}: {error}"))
            .with_remedy("name a file that can be read")
    })?;
    let recorded = traffic::read(BufReader::new(log), &name)?;
    let body = ReplayRequest { algorithm, groups: recorded.groups };
    let reply = run.session()?.call::<ReplayRouting>(&NoParams {}, &body).await?;
    let seconds = recorded.seconds;
    show(run, &reply, |reply, look| view::routing_replay(reply, seconds, look))
}

fn question(args: QuestionArgs) -> Result<RoutingQuestion, Failure> {
    Ok(RoutingQuestion {
        service: args.service,
        class: args.class.into(),
        source_ip: args.source_ip,
        user_zone: args.user_zone,
        region: args.from_region,
        requirement: requirement(args.limits)?,
        without: args.without.into_iter().collect(),
    })
}

/// Nothing when no limit is given: then those of the class count.
fn requirement(args: LimitsArgs) -> Result<Option<Requirement>, Failure> {
    let latency_max = args
        .max_latency
        .map(|most| Micros::new(u32::try_from(most.as_micros()).unwrap_or(u32::MAX)));
    let loss_ppm_max = match args.max_loss {
        None => None,
        Some(percent) if (0.0..=100.0).contains(&percent) => Some(ppm(percent)),
        Some(percent) => {
            let what = format!("`--max-loss {percent}` is no share");
            return Err(Failure::usage(what).with_remedy("use 0 to 100 percent"));
        }
    };
    let wanted = Requirement {
        latency_max,
        bandwidth_min: args.min_bandwidth.map(Mbps::new),
        loss_ppm_max,
        encryption: args.encrypted,
    };
    Ok((wanted != Requirement::default()).then_some(wanted))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "0 to 1,000,000 by the check before"
)]
fn ppm(percent: f64) -> u32 {
    (percent * 10_000.0).round() as u32
}
