//! Ten thousand services: they load, and a change wakes only who uses what changed.

use std::fmt::Write;

use linkerd2_proxy_api::destination::{GetDestination, destination_client::DestinationClient, update::Update as Kind};

use crate::harness::{Controller, metric, next};

const SERVICES: usize = 10_000;

fn services(extra: &str) -> String {
    let mut text = "apiVersion: lanemesh.io/v1alpha1\nkind: Services\nservices:\n".to_owned();
    for number in 0..SERVICES {
        let (high, low) = (number / 250, number % 250);
        writeln!(text, "- name: s{number}\n  namespace: demo\n  ports: [{{port: 80}}]\n  endpoints:").unwrap();
        writeln!(text, "  - {{address: '127.2.{high}.{low}:80', identity: {{serviceAccount: s}}}}").unwrap();
        if number == 7 {
            text.push_str(extra);
        }
    }
    text
}

fn value(text: &serde_json::Value, name: &str) -> u64 {
    let name = metric(name);
    let line =
        text.as_str().unwrap().lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_change_among_ten_thousand_services_wakes_only_its_watchers() {
    let controller = Controller::with(&[("services.yaml", &services(""))], &[]).await;
    let mut client = DestinationClient::new(controller.proxy("a").await);
    let mut streams = Vec::new();
    for number in [7, 8, 9] {
        let ask = GetDestination { path: format!("s{number}.demo:80"), ..GetDestination::default() };
        let mut stream = client.get(ask).await.unwrap().into_inner();
        next(&mut stream).await.unwrap();
        streams.push(stream);
    }
    let (_, before) = controller.get("/metrics").await;
    let extra = "  - {address: '127.3.0.1:80', identity: {serviceAccount: s}}\n";
    controller.write("services.yaml", &services(extra));
    let update = next(&mut streams[0]).await.unwrap();
    let Some(Kind::Add(added)) = update.update else { panic!("an addition") };
    assert_eq!(added.addrs.len(), 1, "the new instance alone");
    let (_, after) = controller.get("/metrics").await;
    let grown = |name: &str| value(&after, name) - value(&before, name);
    assert_eq!(grown("_woken_streams_total"), 1);
    assert!(grown("_changed_keys_total") < 10);
    assert_eq!(value(&after, "controller_services"), SERVICES as u64);
    controller.stop().await;
}
