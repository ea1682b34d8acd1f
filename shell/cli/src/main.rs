//! dwcp-cli: takes from the process what the library needs, and gives back an exit code.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use dwcp_cli::{Surroundings, Terminal};

fn main() -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            writeln!(io::stderr(), "error: the system gives no event queue: {error}")
                .ok();
            return ExitCode::FAILURE;
        }
    };
    let interactive = io::stdin().is_terminal();
    let surroundings = Surroundings::of_process(Box::new(io::stdin()), interactive);
    let mut terminal = Terminal::new(
        Box::new(io::stdout()),
        Box::new(io::stderr()),
        io::stdout().is_terminal(),
    );
    let code = runtime.block_on(dwcp_cli::run(
        std::env::args_os().collect(),
        surroundings,
        &mut terminal,
    ));
    ExitCode::from(code)
}
