//! `monitoring dashboard list|import|export` (O11, O30).

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use dwcp_runtime::outside::Answered;
use serde::{Deserialize, Serialize};

use super::outside::{Named, Service};
use super::show;
use crate::app::Run;
use crate::arguments::{DashboardCommand, ExportArgs, ImportArgs};
use crate::dashboards::{ALL, BuiltIn, Dashboard, find, names};
use crate::failure::{Failure, Kind};
use crate::{text, view};

/// Largest dashboard's file, in bytes: many times the largest of ours.
const FILE_LEN_MAX: u64 = 8 << 20;
/// Longest text of Grafana that is told, in characters.
const TOLD_LEN_MAX: usize = 300;

/// One dashboard, as it is listed.
#[derive(Debug, Serialize)]
pub(crate) struct Listed {
    pub(crate) name: &'static str,
    pub(crate) uid: String,
    pub(crate) title: String,
}

/// What became of one dashboard.
#[derive(Debug, Serialize)]
pub(crate) struct Imported {
    pub(crate) uid: String,
    pub(crate) title: String,
    /// Where it is; absent when nothing was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) url: Option<String>,
    /// The version that Grafana counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<u64>,
    /// Bytes of the request.
    pub(crate) bytes: usize,
}

/// Carries a command about dashboards out.
pub(super) async fn dashboard(
    run: &mut Run<'_>,
    command: DashboardCommand,
) -> Result<(), Failure> {
    match command {
        DashboardCommand::List => list(run),
        DashboardCommand::Import(args) => import(run, args).await,
        DashboardCommand::Export(args) => export(run, &args),
    }
}

fn list(run: &mut Run<'_>) -> Result<(), Failure> {
    let listed: Result<Vec<_>, Failure> = ALL
        .iter()
        .map(|it| {
            let Dashboard { uid, title, .. } = read(it.name, it.text)?;
            Ok(Listed { name: it.name, uid, title })
        })
        .collect();
    show(run, &listed?, view::dashboards)
}

fn read(what: &str, text: &str) -> Result<Dashboard, Failure> {
    Dashboard::read(text).map_err(|why| {
        Failure::usage(format!("{what}: {why}"))
            .with_remedy("give a dashboard as Grafana's JSON model shows it")
    })
}

async fn import(run: &mut Run<'_>, args: ImportArgs) -> Result<(), Failure> {
    let mut dashboards = Vec::new();
    for name in &args.names {
        dashboards.push(built_in(name).and_then(|it| read(it.name, it.text))?);
    }
    for file in &args.file {
        dashboards.push(from_file(run, file)?);
    }
    let named = Named {
        option: "--grafana",
        url: &args.grafana,
        token_file: args.token_file.as_deref(),
        ca_file: args.ca_file.as_deref(),
    };
    let to = Service::open(run, named)?;
    let mut all = Vec::new();
    for it in dashboards {
        let body = it.request(args.folder.as_deref(), args.overwrite);
        let Dashboard { uid, title, .. } = it;
        let bytes = body.len();
        if args.dry_run {
            all.push(Imported { uid, title, url: None, version: None, bytes });
            continue;
        }
        let answered = to.ask("/api/dashboards/db", Some(&body)).await?;
        let put = put(&to, &title, &answered)?;
        let uid = put.uid.unwrap_or(uid);
        let url = put.url.map(|path| format!("{}{}", to.origin, text::plain(&path)));
        all.push(Imported { uid, title, url, version: put.version, bytes });
    }
    show(run, &all, view::dashboards_imported)
}

fn built_in(name: &str) -> Result<BuiltIn, Failure> {
    find(name).ok_or_else(|| {
        let name = text::plain(name);
        Failure::new(Kind::NotFound, format!("no dashboard {name} comes with the tool"))
            .with_remedy(format!("one of {}, or `--file FILE`", names()))
    })
}

/// A file, or where there is none the dashboard that comes with the tool under this name alone.
fn from_file(run: &mut Run<'_>, file: &Path) -> Result<Dashboard, Failure> {
    let shown = file.display().to_string();
    let unreadable = |why: &dyn std::fmt::Display| {
        Failure::usage(format!("{}: {why}", text::plain(&shown)))
            .with_remedy(format!("name a file, or one of {}", names()))
    };
    match fs::metadata(file) {
        Ok(about) if about.len() > FILE_LEN_MAX => {
            Err(unreadable(&format!("it is larger than {FILE_LEN_MAX} bytes")))
        }
        Ok(_) => {
            let text = fs::read_to_string(file).map_err(|error| unreadable(&error))?;
            read(&text::plain(&shown), &text)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let Some(it) = find(&shown) else { return Err(unreadable(&error)) };
            let note =
                format!("there is no file {shown} here: the one of the tool is used");
            run.terminal.note(&text::plain(&note));
            read(it.name, it.text)
        }
        Err(error) => Err(unreadable(&error)),
    }
}

/// What Grafana says of a dashboard that it took.
#[derive(Debug, Default, Deserialize)]
struct Put {
    uid: Option<String>,
    url: Option<String>,
    version: Option<u64>,
}

/// What Grafana says of one that it did not.
#[derive(Debug, Default, Deserialize)]
struct Complaint {
    #[serde(default)]
    message: String,
    #[serde(default)]
    status: String,
}

fn put(to: &Service, title: &str, answered: &Answered) -> Result<Put, Failure> {
    if answered.status == 200 {
        return serde_json::from_slice(&answered.body).map_err(|_| {
            Failure::new(
                Kind::Failed,
                format!("{} is no Grafana: 200 with other text", to.base),
            )
            .with_remedy("check --grafana, with the path if it is below one")
        });
    }
    let said: Complaint = serde_json::from_slice(&answered.body).unwrap_or_default();
    let message: String = text::plain(&said.message).chars().take(TOLD_LEN_MAX).collect();
    let because = if message.is_empty() { String::new() } else { format!(": {message}") };
    let (kind, what, remedy) = match answered.status {
        401 => (
            Kind::Refused,
            "does not know this token",
            "make one of a service account in Grafana, and name its file by --token-file",
        ),
        403 => (
            Kind::Refused,
            "does not let this token do it",
            "give its service account the role Editor, in the folder too",
        ),
        404 => (
            Kind::NotFound,
            "has no such folder, or is no Grafana",
            "check --folder (its uid is in its address), and the path of --grafana",
        ),
        412 if said.status == "name-exists" => (
            Kind::Conflict,
            "has another dashboard with this title there",
            "--overwrite replaces it; or choose another --folder",
        ),
        412 => (
            Kind::Conflict,
            "has one that was changed since",
            "--overwrite replaces it; export it from Grafana first if the change is to be kept",
        ),
        400 | 422 => (Kind::Failed, "refuses it", "check the dashboard's JSON"),
        300..400 => (
            Kind::Failed,
            "sends this elsewhere, which is not followed",
            "name the address that it sends to: https instead of http, or its path",
        ),
        _ => (Kind::Failed, "failed", "see its log, then try again"),
    };
    let title = text::plain(title);
    let status = answered.status;
    let message = format!(
        "{}: Grafana {what} ({status}{because}); {title:?} is not there",
        to.base
    );
    Err(Failure::new(kind, message).with_remedy(remedy))
}

fn export(run: &mut Run<'_>, args: &ExportArgs) -> Result<(), Failure> {
    let chosen = match &args.name {
        Some(name) => vec![built_in(name)?],
        None => ALL.to_vec(),
    };
    let Some(dir) = &args.dir else {
        return chosen.iter().try_for_each(|it| run.terminal.print(it.text));
    };
    let files: Result<Vec<String>, Failure> =
        chosen.iter().map(|it| write(dir, it, args.overwrite)).collect();
    show(run, &files?, |files, _| files.iter().map(|file| format!("{file}\n")).collect())
}

fn write(dir: &Path, it: &BuiltIn, overwrite: bool) -> Result<String, Failure> {
    let file: PathBuf = dir.join(format!("{}.json", it.name));
    let shown = text::plain(&file.display().to_string());
    let failed = |error: io::Error| {
        if error.kind() == io::ErrorKind::AlreadyExists {
            return Failure::new(Kind::Conflict, format!("{shown} is there already"))
                .with_remedy("--overwrite replaces it");
        }
        Failure::new(Kind::Failed, format!("{shown}: {error}"))
            .with_remedy("name a folder that can be written to")
    };
    fs::create_dir_all(dir).map_err(failed)?;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).create_new(!overwrite);
    let mut opened = options.open(&file).map_err(failed)?;
    opened.write_all(it.text.as_bytes()).map_err(failed)?;
    Ok(shown)
}
