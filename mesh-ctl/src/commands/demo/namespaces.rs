//! One network namespace per pod, joined by a bridge in a namespace of its own; the machine's own network is not
//! touched. The demo moves into that namespace, so that it and the controller are "the host" of the pods.

use std::{fs::File, os::fd::AsFd as _};

use anyhow::{Context as _, ensure};
use rustix::{
    process::geteuid,
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use tokio::process::Command;

use super::{
    leftovers,
    mesh::PROXY_USER,
    processes::Processes,
    programs::Programs,
    topology::{Pod, Topology},
};

/// Pod name of the namespace that holds bridge, controller and demo.
const HOST: &str = "host";

/// Says what is missing before anything is started.
///
/// # Errors
/// When this is not root, or a tool is not installed.
pub(crate) async fn possible() -> anyhow::Result<()> {
    ensure!(geteuid().is_root(), "--netns makes network namespaces, which only root may; run it with sudo");
    for (tool, argument, package) in
        [("ip", "-V", "iproute2"), ("nft", "-v", "nftables"), ("setpriv", "-V", "util-linux")]
    {
        let output = Command::new(tool).arg(argument).output().await;
        ensure!(output.is_ok_and(|output| output.status.success()), "--netns needs `{tool}`; install {package}");
    }
    Ok(())
}

/// Makes the namespaces and moves this thread, and with it the demo, into the host's.
///
/// # Errors
/// Names the command that failed.
pub(crate) async fn make(topology: &Topology, processes: &mut Processes) -> anyhow::Result<()> {
    let name = |pod: &str| leftovers::namespace(topology.block, pod);
    let host = name(HOST);
    for pod in [HOST].into_iter().chain(topology.pods.iter().map(|pod| pod.name.as_str())) {
        processes.delete_at_end(&name(pod)).await?;
        ip(&format!("netns add {}", name(pod))).await?;
        ip(&format!("-n {} link set lo up", name(pod))).await?;
    }
    ip(&format!("-n {host} link add bridge0 type bridge")).await?;
    ip(&format!("-n {host} address add {}/24 dev bridge0", topology.host())).await?;
    ip(&format!("-n {host} link set bridge0 up")).await?;
    for (number, pod) in topology.pods.iter().enumerate() {
        join(topology, pod, number, &host).await?;
    }
    let link = format!("/run/netns/{host}");
    let file = File::open(&link).with_context(|| format!("cannot open {link}"))?;
    // The runtime has this thread alone; threads that it starts later begin in the same namespace.
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).context("cannot enter the namespace")
}

async fn join(topology: &Topology, pod: &Pod, number: usize, host: &str) -> anyhow::Result<()> {
    let namespace = leftovers::namespace(topology.block, &pod.name);
    let gateway = topology.host();
    ip(&format!("-n {host} link add pod{number} type veth peer name eth0 netns {namespace}")).await?;
    ip(&format!("-n {host} link set pod{number} master bridge0 up")).await?;
    ip(&format!("-n {namespace} address add {}/24 dev eth0", topology.address(pod))).await?;
    ip(&format!("-n {namespace} link set eth0 up")).await?;
    ip(&format!("-n {namespace} route add default via {gateway}")).await
}

/// Writes the capture rules of every pod that has an application.
///
/// # Errors
/// Names the pod, with what the command said.
pub(crate) async fn capture(topology: &Topology, programs: &Programs) -> anyhow::Result<()> {
    for pod in topology.pods.iter().filter(|pod| pod.has_application()) {
        let namespace = leftovers::namespace(topology.block, &pod.name);
        let output = Command::new("ip")
            .args(["netns", "exec", &namespace])
            .arg(&programs.proxy)
            .args(["redirect", "--proxy-uid", &PROXY_USER.to_string()])
            .output()
            .await
            .context("cannot start ip")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "mesh-proxy redirect for {}: {}", pod.name, said.trim());
    }
    Ok(())
}

async fn ip(arguments: &str) -> anyhow::Result<()> {
    let output = Command::new("ip").args(arguments.split(' ')).output().await.context("cannot start ip")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {arguments}: {}", said.trim());
    Ok(())
}
