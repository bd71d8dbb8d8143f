//! One file per command. Each takes its arguments and ends with an exit code or a failure that says what to do.

use crate::{
    args::{Args, Command, Policy, Proxy, Token},
    cluster::Controller,
    exit::{Exit, Failure},
};

mod apply;
mod check;
mod completion;
mod demo;
mod drain;
mod endpoints;
mod events;
mod files;
mod get;
mod lane;
mod model;
mod policy;
pub(crate) mod proxy;
mod reference;
pub(crate) mod token;
mod validate;
mod version;
mod zone;

pub(crate) use demo::{Instance, of_chain};

/// Carries out a command.
///
/// # Errors
/// When it could not do what it was told.
pub(crate) async fn run(args: Args) -> Result<Exit, Failure> {
    let controller = Controller::new(args.controller);
    match args.command {
        // The demo is large and runs alone; on the heap it does not weigh on the other commands.
        Command::Demo(demo) => Box::pin(demo::run(&demo)).await,
        Command::Validate(validate) => validate::run(&validate),
        Command::Apply(apply) => apply::run(&controller, &apply).await,
        Command::Get(get) => get::run(&controller, &get).await,
        Command::Check { output } => check::run(&controller, output).await,
        Command::Proxy(Proxy::Status { name, output }) => proxy::status(&controller, name.as_deref(), output).await,
        Command::Proxy(Proxy::Dump { proxy, output }) => proxy::dump(&controller, &proxy, output).await,
        Command::Token(Token::Create(create)) => token::create(&create),
        Command::Lane(command) => lane::run(&controller, command).await,
        Command::Zone(command) => zone::run(&controller, command).await,
        Command::Model(command) => Box::pin(model::run(&controller, command)).await,
        Command::Policy(Policy::Explain { service, output }) => policy::explain(&controller, &service, output).await,
        Command::Endpoints(asked) => endpoints::run(&controller, &asked).await,
        Command::Events(asked) => events::run(&controller, &asked).await,
        Command::Drain(order) => drain::run(&controller, &order).await,
        Command::Version(version) => version::run(&controller, &version).await,
        Command::Completion { shell } => completion::run(shell),
        Command::Reference => Ok(reference::run()),
        Command::DemoGuard => demo::guard::run()
            .await
            .map(|()| Exit::Well)
            .map_err(|error| Failure::not_well("the guard of the demo failed", error)),
    }
}
