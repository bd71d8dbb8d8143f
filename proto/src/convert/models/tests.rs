//! What is wrong with a model route on the wire is named; the rest is refused whole.

use mesh_core::model::model_route::Provider;

use super::*;
use crate::mesh::v1::model_target::Endpoint;

fn route() -> wire::ModelRoute {
    let target = wire::ModelTarget {
        name: "first".to_owned(),
        provider: Provider::Openai.word().to_owned(),
        endpoint: Some(Endpoint::Service(wire::ServiceEndpoint {
            authority: "chat.ai:8000".to_owned(),
            prefix: String::new(),
        })),
        capabilities: Some(wire::Capabilities { usage: "auto".to_owned(), ..wire::Capabilities::default() }),
        ..wire::ModelTarget::default()
    };
    let retry = wire::ModelRetry { only_within: Some(prost_types::Duration::default()), ..wire::ModelRetry::default() };
    let model = wire::VirtualModel {
        name: "*".to_owned(),
        targets: vec![target],
        retry: Some(retry),
        on_exhausted: "503".to_owned(),
        mid_stream: "terminate".to_owned(),
        ..wire::VirtualModel::default()
    };
    let tokens = wire::TokenLimits { on_store_down: "open".to_owned(), ..wire::TokenLimits::default() };
    wire::ModelRoute {
        name: "chat.ai".to_owned(),
        hosts: vec!["models.internal".to_owned()],
        models: vec![model],
        tokens: Some(tokens),
        drill: vec!["shop/tester".to_owned()],
        body_limit: None,
    }
}

#[test]
fn what_is_wrong_is_named() {
    let read = |change: fn(&mut wire::ModelRoute)| {
        let mut route = route();
        change(&mut route);
        from_wire(route).map_or_else(|error| error.to_string(), |_| "fine".to_owned())
    };
    let target = |change: fn(&mut wire::ModelTarget)| {
        let mut route = route();
        change(&mut route.models[0].targets[0]);
        from_wire(route).map_or_else(|error| error.to_string(), |_| "fine".to_owned())
    };
    assert_eq!(read(|_| ()), "fine");
    assert_eq!(read(|route| route.hosts.clear()), "model_route.hosts is missing");
    assert!(read(|route| route.drill = vec!["tester".to_owned()]).starts_with("model_route.drill: "));
    assert_eq!(read(|route| route.models[0].targets.clear()), "virtual_model.targets is missing");
    assert!(read(|route| route.models[0].name = "a*b".to_owned()).starts_with("virtual_model.name: "));
    assert_eq!(
        read(|route| route.models[0].mid_stream = "later".to_owned()),
        "virtual_model.mid_stream: \"later\" is not known"
    );
    let escalate = |route: &mut wire::ModelRoute| {
        route.models[0].escalate =
            Some(wire::Escalate { schema: r#"{"pattern":"a"}"#.to_owned(), ..wire::Escalate::default() });
    };
    assert!(read(escalate).starts_with("escalate.schema: pattern: this keyword is not checked"), "{}", read(escalate));
    assert_eq!(target(|target| target.endpoint = None), "model_target.endpoint is missing");
    assert_eq!(target(|target| target.provider = "x".to_owned()), "model_target.provider: \"x\" is not known");
    let external = |target: &mut wire::ModelTarget| {
        let external = wire::ExternalEndpoint { host: "h".to_owned(), port: 443, ..wire::ExternalEndpoint::default() };
        target.endpoint = Some(Endpoint::External(external));
    };
    assert_eq!(target(external), "external_endpoint.security is missing");
    assert_eq!(target(|target| target.credential = Some(wire::Credential::default())), "credential.place is missing");
}
