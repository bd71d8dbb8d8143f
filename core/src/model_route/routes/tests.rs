//! Routes by host.

use super::*;
use crate::model::model_route::TokenLimits;

fn route(name: &str, hosts: &[&str]) -> Arc<ModelRoute> {
    let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
    let (name, tokens, drill) = (name.to_owned(), TokenLimits::default(), Default::default());
    Arc::new(ModelRoute { name, hosts, models: Vec::new(), tokens, drill, body_limit: 0 })
}

#[test]
fn route_is_found_by_each_of_its_hosts_without_regard_to_case() {
    let routes = ModelRoutes::from([route("a.x", &["llm.demo", "models.internal"]), route("b.x", &["other.demo"])]);
    let found = |host: &str| routes.of_host(host).map(|route| route.name.as_str());
    for (host, expected) in [
        ("llm.demo", Some("a.x")),
        ("models.internal", Some("a.x")),
        ("Other.DEMO", Some("b.x")),
        ("demo", None),
        ("", None),
    ] {
        assert_eq!(found(host), expected, "{host}");
    }
    assert_eq!(ModelRoutes::default().of_host("llm.demo"), None);
}

#[test]
fn the_first_route_counts_where_two_have_a_host() {
    let routes = ModelRoutes::from([route("a.x", &["llm.demo"]), route("b.x", &["llm.demo"])]);
    assert_eq!(routes.of_host("llm.demo").map(|route| route.name.as_str()), Some("a.x"));
}

#[test]
fn table_of_hosts_is_there_again_after_the_routes_were_kept_as_a_list() {
    let routes = ModelRoutes::from([route("a.x", &["llm.demo"])]);
    let text = serde_json::to_string(&routes).unwrap();
    assert!(text.starts_with('['), "{text}");
    let read: ModelRoutes = serde_json::from_str(&text).unwrap();
    assert_eq!(read, routes);
    assert!(read.of_host("llm.demo").is_some());
}
