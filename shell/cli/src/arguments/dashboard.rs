//! Arguments of `monitoring dashboard` (O11, O30).

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// What is done with dashboards.
#[derive(Debug, Subcommand)]
pub(crate) enum DashboardCommand {
    /// List those that come with the tool
    List,
    /// Put dashboards into a Grafana, by its API
    Import(ImportArgs),
    /// Write those that come with the tool to files, or print one
    Export(ExportArgs),
}

/// Arguments of `dashboard import`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(true))]
pub(crate) struct ImportArgs {
    /// One that comes with the tool, such as federation-overview
    #[arg(value_name = "NAME", group = "which")]
    pub(crate) names: Vec<String>,
    /// A dashboard's file; the name alone of one that comes with the tool is that one where there
    /// is no such file. May be repeated
    #[arg(long, value_name = "FILE", group = "which")]
    pub(crate) file: Vec<PathBuf>,
    /// The Grafana, such as `https://grafana.example.com`
    #[arg(long, value_name = "URL", env = "DWCP_GRAFANA")]
    pub(crate) grafana: String,
    /// A file with the token of a service account with the role Editor
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// The uid of the folder to put them in
    #[arg(long, value_name = "UID")]
    pub(crate) folder: Option<String>,
    /// Also over one that somebody changed since, or that has the same title
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Certificates to trust instead of the system's, a PEM file
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Say what would be sent, and send nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Arguments of `dashboard export`.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Only this one
    #[arg(value_name = "NAME", required_unless_present = "dir")]
    pub(crate) name: Option<String>,
    /// The folder to write to; one dashboard alone is printed when absent
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Also over files that are there
    #[arg(long, requires = "dir")]
    pub(crate) overwrite: bool,
}
