//! The dashboards that come with the federation (O11, O30), and what Grafana is sent. Pure.

use serde_json::{Value, json};

/// A dashboard that comes with the tool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BuiltIn {
    /// Its name; its file is called so.
    pub(crate) name: &'static str,
    /// Other names that it goes by: the source's.
    others: &'static [&'static str],
    /// Its file.
    pub(crate) text: &'static str,
}

/// All of them, as in `deploy/grafana`.
pub(crate) const ALL: [BuiltIn; 3] = [
    BuiltIn {
        name: "federation-overview",
        others: &["overview"],
        text: include_str!("../../../deploy/grafana/federation-overview.json"),
    },
    BuiltIn {
        name: "global-routing",
        others: &["routing-dashboard", "routing"],
        text: include_str!("../../../deploy/grafana/global-routing.json"),
    },
    BuiltIn {
        name: "state-sync",
        others: &["state"],
        text: include_str!("../../../deploy/grafana/state-sync.json"),
    },
];

/// The dashboard of this name, which may end in `.json`.
pub(crate) fn find(name: &str) -> Option<BuiltIn> {
    let name = name.strip_suffix(".json").unwrap_or(name);
    ALL.into_iter().find(|it| it.name == name || it.others.contains(&name))
}

/// What names there are, for whoever named another.
pub(crate) fn names() -> String {
    ALL.map(|it| it.name).join(", ")
}

/// A dashboard that may be sent.
#[derive(Clone, Debug)]
pub(crate) struct Dashboard {
    pub(crate) uid: String,
    pub(crate) title: String,
    value: Value,
}

impl Dashboard {
    /// Reads one.
    ///
    /// # Errors
    ///
    /// In words, when the text is none, or one that Grafana's API would not take as it is.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let mut value: Value = serde_json::from_str(text)
            .map_err(|error| format!("it is no JSON: {error}"))?;
        let Some(of) = value.as_object_mut() else {
            return Err("it is no dashboard: not an object".to_owned());
        };
        if of.contains_key("__inputs") {
            return Err(
                "it was exported for sharing and has inputs to be filled in by hand; \
                        export it without that"
                    .to_owned(),
            );
        }
        // The number of another Grafana, which would name another dashboard here.
        of.remove("id");
        let text = |name: &str| of.get(name).and_then(Value::as_str).map(str::to_owned);
        let title = text("title").ok_or("it is no dashboard: it has no title")?;
        let uid = text("uid").unwrap_or_default();
        Ok(Self { uid, title, value })
    }

    /// The body of `POST /api/dashboards/db`.
    pub(crate) fn request(&self, folder: Option<&str>, overwrite: bool) -> String {
        let mut body = json!({
            "dashboard": self.value,
            "overwrite": overwrite,
            "message": concat!("dwcp-cli ", env!("CARGO_PKG_VERSION")),
        });
        if let Some(folder) = folder {
            body["folderUid"] = folder.into();
        }
        body.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_the_source_are_names_and_each_is_a_dashboard() {
        for (name, expected) in [
            ("federation-overview.json", "federation-overview"),
            ("routing-dashboard.json", "global-routing"),
            ("state-sync", "state-sync"),
        ] {
            let found = find(name).unwrap();
            assert_eq!(found.name, expected);
            let read = Dashboard::read(found.text).unwrap();
            assert_eq!(read.uid, expected);
        }
        assert!(find("federation").is_none() && find("").is_none());
    }

    /// Whoever adds a dashboard to the folder adds it here.
    #[test]
    fn every_file_of_the_folder_comes_with_the_tool() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let files = std::fs::read_dir(folder.join("../../deploy/grafana")).unwrap();
        let mut names: Vec<String> =
            files.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name.ends_with(".json"));
        names.sort();
        assert_eq!(names, ALL.map(|it| format!("{}.json", it.name)));
    }

    #[test]
    fn what_grafana_would_not_take_is_refused_here() {
        let refused = |text| Dashboard::read(text).unwrap_err();
        assert!(refused("{").contains("no JSON"));
        assert!(refused("[]").contains("not an object"));
        assert!(refused("{\"uid\":\"x\"}").contains("no title"));
        assert!(refused("{\"title\":\"x\",\"__inputs\":[]}").contains("for sharing"));
        let read = Dashboard::read("{\"title\":\"x\",\"id\":7}").unwrap();
        let sent: Value = serde_json::from_str(&read.request(None, true)).unwrap();
        assert_eq!(sent["dashboard"], json!({ "title": "x" }));
        assert!(sent["overwrite"] == true && sent.get("folderUid").is_none());
        let filed: Value =
            serde_json::from_str(&read.request(Some("ops"), false)).unwrap();
        assert!(filed["folderUid"] == "ops" && filed["overwrite"] == false);
    }
}
