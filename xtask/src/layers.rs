//! Who may depend on whom, as data, with the crates of others by name.
//!
//! A core that cannot name tokio cannot await: that is what keeps the cores pure, more surely
//! than any review. A new dependency is a line in [`LAYERS`], seen by whoever reads the change.

use std::fs;
use std::path::Path;

use crate::files;

/// A crate and everything that it may name.
struct Layer {
    folder: &'static str,
    ours: &'static [&'static str],
    others: &'static [&'static str],
}

/// What a core needs to describe its values; nothing here has an effect.
const VALUES: &[&str] = &["schemars", "serde", "serde_json", "thiserror"];
/// What tests may use besides.
const TESTING: &[&str] = &[
    "crdts",
    // Clients of HTTP/2.
    "http-body-util",
    "hyper",
    "hyper-util",
    "proptest",
    "serde_json",
    "tempfile",
];

const LAYERS: &[Layer] = &[
    Layer { folder: "core/types", ours: &[], others: VALUES },
    Layer { folder: "core/controller", ours: &["dwcp-types"], others: VALUES },
    Layer {
        folder: "core/monitor",
        ours: &["dwcp-types"],
        // The checksum of what it has written is a value too.
        others: &["crc32fast", "schemars", "serde", "serde_json", "thiserror"],
    },
    Layer { folder: "core/router", ours: &["dwcp-types"], others: VALUES },
    Layer {
        folder: "core/state",
        ours: &["dwcp-types"],
        // Its rows and frames are values too, and smaller in postcard than in JSON.
        others: &["postcard", "schemars", "serde", "serde_json", "thiserror"],
    },
    Layer { folder: "core/vm", ours: &["dwcp-types"], others: VALUES },
    Layer {
        folder: "shell/runtime",
        // What a span is and what it takes along.
        ours: &["dwcp-types", "dwcp-monitor"],
        others: &[
            "axum",
            "base64",
            "bytes",
            "crc32fast",
            "fjall",
            "futures-util",
            "http",
            "http-body-util",
            "hyper",
            "hyper-rustls",
            "hyper-util",
            "jiff",
            "prost",
            "quinn",
            "rcgen",
            "redb",
            "ring",
            "rustix",
            "rustls",
            "rustls-pki-types",
            "serde",
            "serde_json",
            "thiserror",
            "tokio",
            "tokio-rustls",
            "tower-service",
            "tracing",
            "tracing-subscriber",
            "x509-parser",
            "zstd",
        ],
    },
    Layer {
        folder: "shell/api",
        ours: &[
            "dwcp-types",
            "dwcp-controller",
            "dwcp-monitor",
            "dwcp-router",
            "dwcp-runtime",
        ],
        others: &[
            "axum",
            "base64",
            "bytes",
            "form_urlencoded",
            "futures-util",
            "http",
            "http-body-util",
            "percent-encoding",
            "schemars",
            "serde",
            "serde_json",
            "serde_path_to_error",
            "thiserror",
            "tokio",
            "tracing",
        ],
    },
    Layer {
        folder: "shell/edge",
        // No region, engine or disk: it answers by what it was handed, also when they are gone.
        ours: &["dwcp-types", "dwcp-router"],
        others: &[
            "bytes",
            "domain",
            "http",
            "http-body-util",
            "hyper",
            "hyper-util",
            "serde",
            // TTLs of datagrams, which neither the standard library nor tokio has.
            "socket2",
            "thiserror",
            "tokio",
            "tokio-rustls",
            "tracing",
        ],
    },
    Layer {
        folder: "shell/region",
        ours: &[
            "dwcp-types",
            "dwcp-controller",
            // Foretells whether a guest can move.
            "dwcp-vm",
            "dwcp-monitor",
            "dwcp-router",
            "dwcp-edge",
            "dwcp-state",
            "dwcp-runtime",
            "dwcp-api",
        ],
        others: &[
            "anyhow",
            "axum",
            "base64",
            "bytes",
            "clap",
            "futures-util",
            // Where clients are, from files that others keep.
            "maxminddb",
            "prometheus-client",
            "rustix",
            "serde",
            "serde-saphyr",
            "serde_json",
            "thiserror",
            "tokio",
            "tracing",
        ],
    },
    Layer {
        folder: "shell/agent",
        // Of the monitor: what a span is.
        ours: &["dwcp-types", "dwcp-vm", "dwcp-monitor", "dwcp-runtime", "dwcp-api"],
        others: &[
            "anyhow",
            "axum",
            "clap",
            "crc32fast",
            "futures-util",
            "rustix",
            "serde",
            "serde-saphyr",
            "serde_json",
            "thiserror",
            "tokio",
            "tracing",
        ],
    },
    Layer {
        folder: "shell/cli",
        ours: &[
            "dwcp-types",
            "dwcp-controller",
            "dwcp-monitor",
            "dwcp-router",
            "dwcp-api",
            "dwcp-runtime",
        ],
        others: &[
            "anyhow",
            "clap",
            "clap_complete",
            "jiff",
            // Draws `top`; brings crossterm.
            "ratatui",
            "serde",
            "serde-saphyr",
            "serde_json",
            "thiserror",
            "tokio",
        ],
    },
    Layer {
        folder: "sim",
        ours: &["dwcp-types", "dwcp-controller", "dwcp-monitor", "dwcp-state", "dwcp-vm"],
        others: &["serde", "serde_json"],
    },
    Layer {
        folder: "testbed",
        // The region's crate for reading a federation's file, the simulation for seeded chance
        // and for judging histories.
        ours: &[
            "dwcp-types",
            "dwcp-controller",
            // What its tests ask a monitor and a router and are told.
            "dwcp-monitor",
            "dwcp-router",
            "dwcp-runtime",
            "dwcp-api",
            "dwcp-region",
            "dwcp-sim",
        ],
        others: &[
            "anyhow",
            "bytes",
            "clap",
            "http",
            "rustix",
            "rustls",
            "rustls-pki-types",
            "serde",
            "serde_json",
            "tempfile",
            "thiserror",
            "tokio",
            "tokio-rustls",
            "tun-rs",
        ],
    },
    Layer {
        folder: "xtask",
        ours: &[
            "dwcp-types",
            "dwcp-controller",
            "dwcp-monitor",
            "dwcp-router",
            "dwcp-edge",
            "dwcp-runtime",
            "dwcp-api",
            "dwcp-region",
            "dwcp-agent",
            "dwcp-vm",
            "dwcp-sim",
            "dwcp-state",
            "dwcp-testbed",
        ],
        others: &[
            "anyhow",
            "bytes",
            "clap",
            "futures-util",
            "rustix",
            "serde",
            "serde_json",
            "tokio",
            "toml",
            "zstd",
        ],
    },
];

/// Complains of every dependency that the table does not have, and of every crate.
pub(crate) fn check(root: &Path) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files::under(root, &["Cargo.toml"]) {
        let Some(folder) = file.parent().filter(|folder| *folder != root) else {
            continue;
        };
        let shown = files::shown(root, folder);
        match fs::read_to_string(&file) {
            Ok(text) => complaints.extend(check_manifest(&shown, &text)),
            Err(error) => complaints.push(format!("{shown}/Cargo.toml: {error}")),
        }
    }
    complaints
}

fn check_manifest(folder: &str, text: &str) -> Vec<String> {
    let Some(layer) = LAYERS.iter().find(|layer| layer.folder == folder) else {
        return vec![format!("{folder}: no row in the layers of xtask/src/layers.rs")];
    };
    let manifest: toml::Table = match text.parse() {
        Ok(manifest) => manifest,
        Err(error) => return vec![format!("{folder}/Cargo.toml: {error}")],
    };
    let allowed = |name: &str, tests: bool| {
        layer.ours.contains(&name)
            || layer.others.contains(&name)
            || (tests && TESTING.contains(&name))
    };
    dependencies(&manifest)
        .into_iter()
        .filter(|(name, tests)| !allowed(name, *tests))
        .map(|(name, _)| {
            format!(
                "{folder}/Cargo.toml: {folder} may not depend on {name}; if it must, say so in \
                 xtask/src/layers.rs and why in the change"
            )
        })
        .collect()
}

/// Every dependency of a manifest by its own name, and whether only tests have it.
fn dependencies(manifest: &toml::Table) -> Vec<(String, bool)> {
    let mut found = Vec::new();
    for (key, tests) in [
        ("dependencies", false),
        ("build-dependencies", false),
        ("dev-dependencies", true),
    ] {
        let own = manifest.get(key);
        let targets = manifest.get("target").and_then(toml::Value::as_table);
        let of_targets =
            targets.into_iter().flatten().filter_map(|(_, target)| target.get(key));
        for table in own.into_iter().chain(of_targets).filter_map(toml::Value::as_table) {
            for (name, wanted) in table {
                // A renamed crate is judged by its own name.
                let own = wanted.get("package").and_then(toml::Value::as_str);
                found.push((own.unwrap_or(name).to_owned(), tests));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_that_names_tokio_is_refused_by_name() {
        let manifest = "[dependencies]\ndwcp-types.workspace = true\ntokio = \"1\"";
        let complaints = check_manifest("core/controller", manifest);
        assert_eq!(complaints.len(), 1);
        assert!(complaints[0].contains("core/controller may not depend on tokio"));
    }

    #[test]
    fn another_name_and_another_table_hide_nothing() {
        let renamed = "[dependencies]\nserde = { package = \"tokio\", version = \"1\" }";
        let target = "[target.'cfg(unix)'.dependencies]\nrustix = \"1\"";
        let build = "[build-dependencies]\ncc = \"1\"";
        for manifest in [renamed, target, build] {
            assert_eq!(check_manifest("core/vm", manifest).len(), 1, "{manifest}");
        }
    }

    #[test]
    fn what_only_tests_may_use_stays_with_the_tests() {
        let for_tests = "[dev-dependencies]\nproptest = \"1\"";
        let for_all = "[dependencies]\nproptest = \"1\"";
        assert!(check_manifest("core/types", for_tests).is_empty());
        assert_eq!(check_manifest("core/types", for_all).len(), 1);
    }

    #[test]
    fn a_core_knows_no_shell_and_no_other_core() {
        for layer in LAYERS.iter().filter(|layer| layer.folder.starts_with("core/")) {
            let only_types = layer.ours.iter().all(|name| *name == "dwcp-types");
            assert!(only_types, "{}", layer.folder);
        }
    }

    #[test]
    fn a_crate_without_a_row_is_noticed() {
        assert!(check_manifest("core/thirteenth", "")[0].contains("no row"));
    }
}
