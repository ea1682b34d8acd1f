//! The text of server-sent events (`text/event-stream`, WHATWG HTML 9.2): written and read.
//!
//! The reader takes bytes as they come and bounds what it holds; what it does not know it skips,
//! as the standard says. No event carries a line of its own `retry`: whoever reads knows how long
//! to pause.

use std::fmt::Write as _;

/// Largest event that is read, in bytes: many times an overview of 50 regions.
pub const EVENT_LEN_MAX: usize = 1 << 20;
/// What is sent when there is nothing to say, so that both sides know that the other lives.
pub const HEARTBEAT: &str = ":\n\n";

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What whoever comes back says that it has (`Last-Event-ID`).
    pub id: String,
    /// What kind it is.
    pub kind: String,
    /// What it carries; any lines.
    pub data: String,
}

impl Event {
    /// As it is sent. Line ends within id and kind are left out: they would end the field.
    #[must_use]
    pub fn text(&self) -> String {
        let line = |text: &str| text.replace(['\r', '\n', '\0'], "");
        let mut text = format!("id: {}\nevent: {}\n", line(&self.id), line(&self.kind));
        for part in self.data.split('\n') {
            // Writing into a string cannot fail.
            writeln!(text, "data: {part}").unwrap_or_default();
        }
        text.push('\n');
        text
    }
}

/// What is no stream of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event is larger than {EVENT_LEN_MAX} bytes")]
pub struct TooLarge;

/// Reads events from bytes as they come.
#[derive(Debug, Default)]
pub struct Reader {
    line: Vec<u8>,
    after_return: bool,
    id: String,
    kind: String,
    data: String,
    has_data: bool,
}

impl Reader {
    /// Takes some bytes, and gives the events that they complete.
    ///
    /// # Errors
    ///
    /// When one is too large; nothing more can be read then.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Vec<Event>, TooLarge> {
        let mut events = Vec::new();
        for byte in bytes {
            let after_return = std::mem::take(&mut self.after_return);
            match byte {
                b'\n' if after_return => {}
                b'\r' | b'\n' => {
                    self.after_return = *byte == b'\r';
                    events.extend(self.end_line());
                }
                _ => self.line.push(*byte),
            }
            if self.line.len() + self.data.len() > EVENT_LEN_MAX {
                return Err(TooLarge);
            }
        }
        Ok(events)
    }

    fn end_line(&mut self) -> Option<Event> {
        let bytes = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&bytes);
        if line.is_empty() {
            return self.end_event();
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "id" => value.clone_into(&mut self.id),
            "event" => value.clone_into(&mut self.kind),
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            _ => {}
        }
        None
    }

    fn end_event(&mut self) -> Option<Event> {
        let kind = std::mem::take(&mut self.kind);
        let data = std::mem::take(&mut self.data);
        // The id stays for the events after it that name none.
        let has_data = std::mem::take(&mut self.has_data);
        has_data.then(|| Event { id: self.id.clone(), kind, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(parts: &[&[u8]]) -> Vec<Event> {
        let mut reader = Reader::default();
        parts.iter().flat_map(|part| reader.take(part).unwrap()).collect()
    }

    fn event(id: &str, kind: &str, data: &str) -> Event {
        Event { id: id.to_owned(), kind: kind.to_owned(), data: data.to_owned() }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_however_it_is_cut(
            events in prop::collection::vec(("[a-z0-9.]{1,6}", "[a-z]{1,6}", "[ -~\n]{0,20}"), 0..5),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let events: Vec<_> = events.iter().map(|(id, kind, data)| event(id, kind, data)).collect();
            let text: String = events.iter().map(|it| it.text() + HEARTBEAT).collect();
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let parts: Vec<&[u8]> =
                cuts.windows(2).map(|cut| &text.as_bytes()[cut[0]..cut[1]]).collect();
            prop_assert_eq!(read(&parts), events);
        }
    }

    /// The examples of the standard.
    #[test]
    fn streams_of_others_are_read_as_the_standard_says() {
        let stock = "data: YHOO\ndata: +2\ndata: 10\n\n";
        assert_eq!(read(&[stock.as_bytes()]), [event("", "", "YHOO\n+2\n10")]);
        let four = ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\n\
                    data:  third event\n\n";
        let expected = [
            event("1", "", "first event"),
            event("", "", "second event"),
            event("", "", " third event"),
        ];
        assert_eq!(read(&[four.as_bytes()]), expected);
        let empty = "data\n\ndata\ndata\n\ndata:";
        assert_eq!(read(&[empty.as_bytes()]), [event("", "", ""), event("", "", "\n")]);
        let ends = "event: a\r\ndata: 1\r\n\r\nevent: b\rdata: 2\r\r";
        assert_eq!(read(&[ends.as_bytes()]), [event("", "a", "1"), event("", "b", "2")]);
    }

    #[test]
    fn an_event_without_end_is_refused() {
        let mut reader = Reader::default();
        let part = vec![b'x'; EVENT_LEN_MAX / 2];
        reader.take(b"data: ").unwrap();
        reader.take(&part).unwrap();
        reader.take(b"\n").unwrap();
        assert_eq!(
            reader.take(&[part.as_slice(), b"data: more"].concat()),
            Err(TooLarge)
        );
    }

    #[test]
    fn no_id_ends_its_field() {
        assert_eq!(event("a\nb", "c\r", "").text(), "id: ab\nevent: c\ndata: \n\n");
    }
}
