//! The one binary of Weir: arguments, configuration, wiring of the stages, HTTP, the terminal's view.

mod admin;
mod arguments;
mod attacks;
mod audit;
mod background;
mod baseline;
mod config;
mod daemon;
mod data_channel;
mod decode;
mod demo;
mod dots;
mod evidence;
mod exporters;
mod filters;
mod generate;
mod http;
mod journal;
mod judge;
mod kafka;
mod learn;
mod log;
mod metrics;
mod naming;
mod overview;
mod progress;
mod query;
mod replay;
mod run;
mod sample;
mod score;
mod standby;
mod state;
mod store;
mod suggest;
mod upstreams;
mod views;

use std::process::ExitCode;

use clap::Parser;
use weir_flow_record::ColumnSet;

use arguments::{Arguments, CheckArguments, Command};
use config::ConfigError;

/// Exit status of a bad configuration (`EX_CONFIG` of sysexits.h).
const BAD_CONFIGURATION: u8 = 78;

fn main() -> ExitCode {
    match dispatch(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match error.downcast_ref::<ConfigError>() {
            Some(mistakes) => {
                eprintln!("{mistakes}");
                ExitCode::from(BAD_CONFIGURATION)
            }
            None => {
                eprintln!("weir: {}", in_one_line(&error));
                let declined = error.downcast_ref::<admin::Declined>();
                declined.map_or(ExitCode::FAILURE, |one| ExitCode::from(one.exit_code()))
            }
        },
    }
}

/// An error with its causes; a cause that an error already tells is not told twice.
fn in_one_line(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !text.contains(&cause) {
            let separator = if text.is_empty() { "" } else { ": " };
            text = format!("{text}{separator}{cause}");
        }
    }
    text
}

fn dispatch(command: Command) -> anyhow::Result<()> {
    if !matches!(
        command,
        Command::Run(_) | Command::Dots(arguments::DotsCommand::Serve(_))
    ) {
        log::start_quiet();
    }
    match command {
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Run(arguments) => run::run(&arguments.config.config, arguments.role),
        Command::Check(arguments) => check(&arguments),
        Command::Decode(arguments) => decode::run(&arguments),
        Command::Replay(arguments) => replay::run(&arguments),
        Command::Sample(arguments) => sample::run(&arguments),
        Command::Generate(arguments) => generate::run(&arguments),
        Command::Score(arguments) => score::run(&arguments),
        Command::Baseline(command) => baseline::run(&command),
        Command::Attacks(command) => attacks::run(command),
        Command::Exporters(arguments) => exporters::run(&arguments),
        Command::Query(arguments) => query::run(&arguments),
        Command::Dots(command) => dots::run(command),
        Command::Join(arguments) => learn::join(&arguments),
        Command::Train(arguments) => learn::train(&arguments),
        Command::Evaluate(arguments) => learn::evaluate(&arguments),
        Command::State(command) => state::run(&command),
        Command::Models(command) => learn::models(command),
    }
}

fn check(arguments: &CheckArguments) -> anyhow::Result<()> {
    if arguments.suggest {
        return suggest::run(arguments);
    }
    let (config, settings) = config::read(&arguments.config.config, ColumnSet::NONE)?;
    for warning in &settings.warnings {
        eprintln!("{}: {warning}", arguments.config.config.display());
    }
    config::check_files(&settings)?;
    if arguments.dump {
        print!("{}", config.dump()?);
    } else {
        println!("{}: no mistakes", arguments.config.config.display());
    }
    Ok(())
}
