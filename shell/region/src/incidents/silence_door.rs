//! Answers operators who ask for silences, make or end them (M15).

use std::sync::Arc;
use std::time::Duration;

use dwcp_api::silence::{
    CreateSilence, EndSilence, GetSilence, ListSilences, NewSilence, SilenceEnd,
    SilenceFilter, SilenceItem, SilenceList, SilenceParams, SilenceReply,
};
use dwcp_api::{ApiError, ErrorCode, Routes};
use dwcp_monitor::incident::{Book, Refused, Silence, SilenceDraft, SilenceId};

use super::{Incidents, NotChanged};
use crate::bind::{bind, bind_by};
use crate::public_api::admit;

/// The operator's routes.
pub(super) fn routes(api: &Arc<Incidents>) -> Routes {
    let routes = bind! { api, admit,
        ListSilences => silences;
        GetSilence => show_silence;
    };
    let routes = bind_by::<EndSilence, _, _, _>(
        routes,
        (api, admit),
        |api, by, of, body| async move { api.end_silence(&by, of, body).await },
    );
    bind_by::<CreateSilence, _, _, _>(
        routes,
        (api, admit),
        |api, by, _, body| async move { api.create_silence(&by, body).await },
    )
}

impl Incidents {
    #[expect(clippy::unused_async, reason = "every handler has the same shape")]
    async fn silences(
        &self,
        asked: SilenceFilter,
        (): (),
    ) -> Result<SilenceList, ApiError> {
        self.known(asked.region.as_ref())?;
        let now = self.clock.now();
        // What is over is there until the next change of the book.
        let wanted = |it: &&Silence| {
            now < it.of.until
                && asked.region.as_ref().is_none_or(|region| it.of.region == *region)
        };
        let items = self.board.look(|book| {
            let found = book.silences.values().filter(wanted);
            found.map(|silence| item(book, silence)).collect()
        });
        let answered_by = self.region.clone();
        Ok(SilenceList { items, answered_by, age_ms: self.age_ms() })
    }

    #[expect(clippy::unused_async, reason = "every handler has the same shape")]
    async fn show_silence(
        &self,
        of: SilenceParams,
        (): (),
    ) -> Result<SilenceReply, ApiError> {
        let id = of.silence;
        let found = self.board.look(|book| Some(item(book, book.silences.get(&id)?)));
        let unknown = || NotChanged::Refused(Refused::NoSuchSilence { id }).told();
        Ok(self.silence_reply(found.ok_or_else(unknown)?, false))
    }

    async fn create_silence(
        &self,
        by: &str,
        body: NewSilence,
    ) -> Result<SilenceReply, ApiError> {
        self.known(Some(&body.region))?;
        let dry_run = body.dry_run;
        let now = self.clock.now();
        let from = body.from.unwrap_or(now);
        let until = match (body.until, body.for_s) {
            (Some(until), None) => until,
            (None, Some(seconds)) => from.plus(Duration::from_secs(seconds)),
            (None, None) | (Some(_), Some(_)) => {
                let message = "say either until when it is or for how long";
                let error = ApiError::new(ErrorCode::Invalid, message);
                return Err(error.with_remedy("such as `--for 2h`"));
            }
        };
        let draft = SilenceDraft {
            kind: body.kind,
            region: body.region,
            cause: body.cause,
            severity_below: body.severity_below,
            from,
            until,
            reason: body.reason,
        };
        let made = |book: &mut Book| -> Result<_, Refused> {
            let id = book.silence(&draft, by, now)?;
            let silence = book.silences.get(&id).ok_or(Refused::NoSuchSilence { id })?;
            Ok(item(book, silence))
        };
        let made = if dry_run { self.tried(made) } else { self.change(None, made).await };
        Ok(self.silence_reply(made.map_err(|error| error.told())?, dry_run))
    }

    async fn end_silence(
        &self,
        by: &str,
        of: SilenceParams,
        body: SilenceEnd,
    ) -> Result<SilenceReply, ApiError> {
        let id: SilenceId = of.silence;
        let now = self.clock.now();
        let ended = |book: &mut Book| -> Result<_, Refused> {
            let silence = book.silences.get(&id).ok_or(Refused::NoSuchSilence { id })?;
            let ended = item(book, silence);
            book.end_silence(id, by, now)?;
            Ok(ended)
        };
        let ended =
            if body.dry_run { self.tried(ended) } else { self.change(None, ended).await };
        Ok(self.silence_reply(ended.map_err(|error| error.told())?, body.dry_run))
    }

    /// What a change of the book would give.
    fn tried<T>(
        &self,
        mut act: impl FnMut(&mut Book) -> Result<T, Refused>,
    ) -> Result<T, NotChanged> {
        let (before, _) = self.board.book().ok_or(NotChanged::Unread)?;
        Ok(act(&mut Book::clone(&before))?)
    }

    fn silence_reply(&self, item: SilenceItem, dry_run: bool) -> SilenceReply {
        let answered_by = self.region.clone();
        SilenceReply { item, dry_run, answered_by, age_ms: self.age_ms() }
    }
}

fn item(book: &Book, silence: &Silence) -> SilenceItem {
    let by_it = book.incidents.values().filter(|it| it.silenced == Some(silence.id));
    SilenceItem { silence: silence.clone(), silences: by_it.map(|it| it.id).collect() }
}
