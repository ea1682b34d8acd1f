//! Links in the documents lead somewhere.
//!
//! Only links within the project are followed; whether the rest of the world is up is not
//! ours to test.

use std::fs;
use std::path::Path;

use crate::files;

/// Complains of every link in a Markdown file whose file or heading is not there.
pub(crate) fn check(root: &Path) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files::under(root, &[".md"]) {
        let shown = files::shown(root, &file);
        let Ok(text) = fs::read_to_string(&file) else {
            complaints.push(format!("{shown}: cannot be read"));
            continue;
        };
        let folder = file.parent().unwrap_or(root);
        for (line, target) in links(&text) {
            if let Some(fault) = fault(&target, folder, &text) {
                complaints.push(format!("{shown}:{line}: the link `{target}` {fault}"));
            }
        }
    }
    complaints
}

fn fault(target: &str, folder: &Path, own: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (path, heading) = target.split_once('#').unwrap_or((target, ""));
    let file = folder.join(path);
    if !path.is_empty() && !file.exists() {
        return Some("leads to no file; correct the path".to_owned());
    }
    if heading.is_empty() {
        return None;
    }
    let text =
        if path.is_empty() { own.to_owned() } else { fs::read_to_string(&file).ok()? };
    let there = headings(&text).any(|known| known == heading);
    (!there).then(|| format!("leads to no heading `#{heading}`"))
}

/// The lines outside fenced code, numbered from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        (!fenced && !fence).then_some((index + 1, line))
    })
}

/// Every `[text](target)` with its line; what stands in backquotes is no link.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        let plain: String = line.split('`').step_by(2).collect::<Vec<_>>().join("``");
        let targets = plain.split("](").skip(1);
        for target in targets.filter_map(|rest| rest.split_once(')')) {
            let target = target.0.split_whitespace().next().unwrap_or("");
            found.push((number, target.trim_matches(['<', '>']).to_owned()));
        }
    }
    found
}

/// The anchors of the headings, by the rule that code hosts use: small letters, spaces to
/// hyphens, everything else but letters, digits, `-` and `_` left out.
fn headings(text: &str) -> impl Iterator<Item = String> {
    prose(text).filter(|(_, line)| line.starts_with('#')).map(|(_, line)| {
        let title = line.trim_start_matches('#').trim();
        title
            .to_lowercase()
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_outside_code_only() {
        let text = "[a](x.md) `[b](y.md)` ![c](<z.png> \"t\")\n```\n[d](w.md)\n```\n";
        let found = links(text);
        assert_eq!(found, [(1, "x.md".to_owned()), (1, "z.png".to_owned())]);
    }

    #[test]
    fn a_link_to_nothing_is_a_fault_and_the_world_is_not_followed() {
        let folder = crate::root().unwrap();
        let own = "# One title: two\n";
        assert!(fault("no-such.md", &folder, own).is_some());
        assert!(fault("LICENSE", &folder, own).is_none());
        assert!(fault("https://example.com/x", &folder, own).is_none());
        assert!(fault("#one-title-two", &folder, own).is_none());
        assert!(fault("#three", &folder, own).is_some());
    }
}
