//! Clients ask and are answered: the only place where history is written.

use std::rc::Rc;
use std::time::Duration;

use dwcp_state::{
    Actor, Answer, Input, Key, Op, OpId, Outcome, Reading, Refusal, Request, RequestId,
};

use super::client::{ATTEMPTS_MAX, Client, Context, Spent, Waiting};
use super::history::{Attempt, End, Operation, Told, Wish};
use super::keys::seen;
use super::node::Asked;
use super::oracle::{Change, Number};
use super::world::{Event, Seen, World};

/// How long a request may wait at a replica, in milliseconds.
const WITHIN_MS: (u64, u64) = (300, 4_000);
/// How much longer a client waits for the answer, in microseconds.
const PATIENCE_US: u64 = 1_500_000;

/// The request under which invariants look into a replica; its answer is theirs alone.
pub(super) const PEEK: RequestId = RequestId(u64::MAX);

impl World {
    /// A client's timer: it begins something, or asks again.
    pub(super) fn client_timer(&mut self, client: usize, timer: u64) {
        if self.clients[client].timer != timer {
            return;
        }
        match &self.clients[client].waiting {
            None if self.faults => self.begin_operation(client),
            None => {}
            Some(waiting) => self.ask_again(client, waiting.number),
        }
    }

    /// Sets a client's timer; an earlier one is void.
    fn set_timer(&mut self, client: usize, after_us: u64) {
        self.clients[client].timer += 1;
        let timer = self.clients[client].timer;
        self.after(after_us, Event::Client { client, timer });
    }

    fn pause(&mut self, client: usize) {
        let pause = self.rng.between(1, self.options.pause_ms * 1_000);
        self.set_timer(client, pause);
    }

    fn begin_operation(&mut self, client: usize) {
        let place = self.rng.index(self.keys.len());
        let key = self.keys[place].clone();
        let number = self.history.next();
        let node = self.choose_node(client, key.fenced);
        let it = &mut self.clients[client];
        if self.rng.chance(1_000) {
            it.session += 1;
            it.token = self.rng.chance(7_000).then(Default::default);
        }
        let wish = it.wish(&mut self.rng, (place, &key), number);
        let level = Client::level(&mut self.rng, &key, &wish);
        let others = self.actors(node);
        let it = &mut self.clients[client];
        // Rights are given back where they were used.
        let spent = it.spent.iter().find(|spent| spent.key == place).copied();
        let context = it.contexts.get(&place).cloned();
        let update = it.update(&wish, (place, &key), number, &others);
        if update.is_none() && wish != Wish::Read {
            return self.pause(client);
        }
        let node = match (&wish, spent) {
            (Wish::Release(_), Some(spent)) => spent.node,
            _ => node,
        };
        let overwrites = matches!(wish, Wish::Change(Change::Write(_) | Change::Clear));
        let decided_on = context.filter(|_| overwrites).map(|it| (it.values, it.reach));
        let it = &mut self.clients[client];
        self.history.push(Operation {
            number,
            client,
            session: it.session,
            key: place,
            wish,
            level,
            op_id: OpId { client: client as u64, number: u64::from(number) },
            token: it.token.clone(),
            begun: self.now,
            attempts: Vec::new(),
            end: End::Open,
            decided_on,
        });
        it.waiting = Some(Waiting { number, update, node, in_doubt: false });
        self.ask(client);
    }

    /// Mostly a node of the client's own region; one that may hold the key.
    fn choose_node(&mut self, client: usize, fenced: bool) -> usize {
        let home = self.clients[client].region;
        let roams = self.rng.chance(1_500);
        let fits = |node: &usize| {
            let region = self.nodes[*node].region;
            (!fenced || super::keys::is_inside(region)) && (roams || region == home)
        };
        let mut nodes: Vec<usize> = (0..self.nodes.len()).filter(fits).collect();
        if nodes.is_empty() {
            let inside = |node: &usize| super::keys::is_inside(self.nodes[*node].region);
            nodes = (0..self.nodes.len()).filter(inside).collect();
        }
        nodes[self.rng.index(nodes.len())]
    }

    /// The actor of a node, and that of some node that runs.
    fn actors(&mut self, node: usize) -> Vec<Actor> {
        let other = self.rng.index(self.nodes.len());
        let actor = |node: usize| self.nodes[node].replica.as_ref().map(|it| it.actor());
        [node, other].into_iter().filter_map(actor).collect()
    }

    /// Hands what a client waits for to its node, once more.
    fn ask(&mut self, client: usize) {
        let Some(waiting) = self.clients[client].waiting.clone() else { return };
        let Waiting { number, update, node, .. } = waiting;
        let within_ms = self.rng.between(WITHIN_MS.0, WITHIN_MS.1);
        self.set_timer(client, within_ms * 1_000 + PATIENCE_US);
        if self.nodes[node].replica.is_none() {
            return;
        }
        let operation = self.history.get(number);
        let key = Key::clone(&self.keys[operation.key].name);
        let is_update = update.is_some();
        let op = match update {
            None => Op::Get { key, max_staleness: None },
            Some(update) => Op::Update { key, update, op_id: Some(operation.op_id) },
        };
        let request = Request {
            id: self.next_request(),
            level: Some(self.history.get(number).level),
            session: self.history.get(number).token.clone(),
            within: Duration::from_millis(within_ms),
            op,
        };
        let attempt = self.note_attempt(number, node, is_update);
        let asked = Asked { client, number, attempt };
        self.nodes[node].asked.insert(request.id, asked);
        self.note([10, node as u64, u64::from(number)], || {
            format!("client {client} asks {node} for operation {number}: {request:?}")
        });
        let before = self.nodes[node].end();
        // Before the answer: what is minted may be used from now on.
        self.seen.push(Seen::Asked { number });
        self.feed(node, Input::Client(request));
        self.note_effect(number, attempt, before);
    }

    fn note_attempt(&mut self, number: Number, node: usize, is_update: bool) -> usize {
        let it = &mut self.nodes[node];
        let index = if is_update { it.takes_update(node) } else { 0 };
        let (had, at) = (it.had(), self.now);
        let attempts = &mut self.history.get_mut(number).attempts;
        attempts.push(Attempt { node, at, had, index, until: None, position: None });
        attempts.len() - 1
    }

    /// Notes whether an update took effect at once. A successor that takes over rights first
    /// writes more than one record; the last is the update.
    fn note_effect(
        &mut self,
        number: Number,
        attempt: usize,
        before: dwcp_state::Position,
    ) {
        let operation = self.history.get(number);
        let node = operation.attempts[attempt].node;
        let end = self.nodes[node].end();
        if operation.is_update() && end > before {
            let reach = Rc::clone(&self.nodes[node].reach);
            let attempt = &mut self.history.get_mut(number).attempts[attempt];
            attempt.position = Some(end);
            attempt.until = Some(reach);
        }
    }

    fn ask_again(&mut self, client: usize, number: Number) {
        let attempts = self.history.get(number).attempts.len();
        let is_update = self.history.get(number).is_update();
        if let Some(waiting) = &mut self.clients[client].waiting {
            // Nobody answered, so nobody knows.
            waiting.in_doubt |= attempts > 0;
        }
        if !is_update || attempts >= ATTEMPTS_MAX || self.rng.chance(1_500) {
            return self.give_up(client);
        }
        self.ask(client);
    }

    fn give_up(&mut self, client: usize) {
        let Some(waiting) = self.clients[client].waiting.take() else { return };
        let end = if waiting.in_doubt && self.history.get(waiting.number).is_update() {
            self.counts.unknown += 1;
            End::Unknown
        } else {
            self.counts.refused += 1;
            End::Refused
        };
        self.note([11, u64::from(waiting.number), 0], || {
            format!("operation {} ends as {end:?}", waiting.number)
        });
        self.history.get_mut(waiting.number).end = end;
        self.pause(client);
    }

    /// A replica answers.
    pub(super) fn answer(&mut self, node: usize, request: RequestId, outcome: Outcome) {
        if request == PEEK {
            return;
        }
        let Some(asked) = self.nodes[node].asked.remove(&request) else {
            let text = format!("{node} answers request {} once more", request.0);
            return self.seen.push(Seen::Garbled(text));
        };
        let Asked { client, number, attempt } = asked;
        self.note([12, node as u64, u64::from(number)], || {
            format!("{node} answers operation {number}: {outcome:?}")
        });
        let lost = self.faults && self.rng.chance(self.options.lost_answers);
        let awaited = self.clients[client].waiting.as_ref();
        let heard = !lost && awaited.is_some_and(|waiting| waiting.number == number);
        if heard {
            match &outcome {
                Ok(answer) => self.done((client, number, attempt), answer),
                Err(refusal) => self.refused((client, number), refusal),
            }
        }
        self.seen.push(Seen::Answered { number, node, outcome, heard });
    }

    fn done(
        &mut self,
        (client, number, attempt): (usize, Number, usize),
        answer: &Answer,
    ) {
        let operation = self.history.get(number);
        let (node, place) = (operation.attempts[attempt].node, operation.key);
        let reach = Rc::clone(&self.nodes[node].reach);
        let (position, level, token, staleness) = match answer {
            Answer::Written(written) => {
                (Some(written.position), written.level, &written.token, Duration::ZERO)
            }
            Answer::Read(read) => (None, read.level, &read.token, read.staleness),
            Answer::Listed(_) => return,
        };
        let reading = match answer {
            Answer::Read(read) => Some(read.reading.as_ref()),
            Answer::Written(_) | Answer::Listed(_) => None,
        };
        let numbers = reading.and_then(|it| seen(&self.keys[place], it).ok());
        if let (Some(reading), Some(super::keys::Seen::Values(values))) =
            (reading, &numbers)
            && self.keys[place].kind == dwcp_state::Kind::Mv
        {
            let values = values.iter().copied().collect();
            self.keep_context(client, place, reading, values);
        }
        self.remember_spent((client, number), node, position);
        if self.clients[client].token.is_some() {
            self.clients[client].token = Some(token.clone());
        }
        let told = Told {
            at: self.now,
            node,
            level,
            seen: numbers,
            staleness_us: u64::try_from(staleness.as_micros()).unwrap_or(u64::MAX),
            position,
        };
        let operation = self.history.get_mut(number);
        for attempt in &mut operation.attempts {
            attempt.until.get_or_insert_with(|| Rc::clone(&reach));
        }
        operation.end = End::Done(Box::new(told));
        self.counts.done += 1;
        self.clients[client].waiting = None;
        self.pause(client);
    }

    fn keep_context(
        &mut self,
        client: usize,
        place: usize,
        reading: Option<&Reading>,
        values: Vec<u64>,
    ) {
        let seen = match reading {
            Some(Reading::Siblings { seen, .. }) => seen.clone(),
            _ => Default::default(),
        };
        let Some(waiting) = &self.clients[client].waiting else { return };
        let reach = Rc::clone(&self.nodes[waiting.node].reach);
        self.clients[client].contexts.insert(place, Context { seen, values, reach });
    }

    fn remember_spent(
        &mut self,
        (client, number): (usize, Number),
        node: usize,
        position: Option<dwcp_state::Position>,
    ) {
        let operation = self.history.get(number);
        if let (Wish::Spend(amount), Some(position)) = (&operation.wish, position) {
            let by = Actor::new(self.nodes[node].id, position.incarnation);
            let spent = Spent { key: operation.key, node, by, amount: *amount };
            self.clients[client].spent.push(spent);
        }
    }

    fn refused(&mut self, (client, number): (usize, Number), refusal: &Refusal) {
        let is_update = self.history.get(number).is_update();
        let Some(waiting) = &mut self.clients[client].waiting else { return };
        waiting.in_doubt |= is_update && refusal.may_be_done();
        let again = waiting.in_doubt && refusal.retryable();
        if again && self.history.get(number).attempts.len() < ATTEMPTS_MAX {
            return self.pause(client);
        }
        self.give_up(client);
    }
}
