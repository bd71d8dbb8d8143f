//! Nacos's HTTP API as curl, consoles and clients without an SDK use it: the paths of version 1, which both servers have.

use std::{collections::BTreeMap, fmt::Write as _, net::SocketAddr};

use anyhow::{Context as _, ensure};
use http::Method;
use serde::Deserialize;

use crate::{
    client::{Answer, Connection, Version, full, request},
    registry::Login,
};

/// What is registered.
#[derive(Clone, Debug, PartialEq)]
pub struct Registration {
    /// Name of the service.
    pub service: String,
    /// Group; default `DEFAULT_GROUP`.
    pub group: String,
    /// Namespace; default `public`.
    pub namespace: String,
    /// Address of the instance.
    pub address: SocketAddr,
    /// Cluster; default `DEFAULT`.
    pub cluster: String,
    /// Weight; 1 unless said otherwise.
    pub weight: f64,
    /// Whether it takes traffic.
    pub enabled: bool,
    /// Metadata.
    pub metadata: BTreeMap<String, String>,
    /// Gone without heartbeats or its connection; otherwise it stays until it is deregistered.
    pub ephemeral: bool,
}

impl Registration {
    /// An instance of `service`, with Nacos's defaults for everything else.
    pub fn new(service: &str, address: impl Into<SocketAddr>) -> Registration {
        Registration {
            service: service.to_owned(),
            group: "DEFAULT_GROUP".to_owned(),
            namespace: "public".to_owned(),
            address: address.into(),
            cluster: "DEFAULT".to_owned(),
            weight: 1.0,
            enabled: true,
            metadata: BTreeMap::new(),
            ephemeral: true,
        }
    }

    /// In this group.
    pub fn group(mut self, group: &str) -> Registration {
        self.group = group.to_owned();
        self
    }

    /// In this namespace.
    pub fn namespace(mut self, namespace: &str) -> Registration {
        self.namespace = namespace.to_owned();
        self
    }

    /// In this cluster.
    pub fn cluster(mut self, cluster: &str) -> Registration {
        self.cluster = cluster.to_owned();
        self
    }

    /// With this weight.
    pub fn weight(mut self, weight: f64) -> Registration {
        self.weight = weight;
        self
    }

    /// Out of traffic.
    pub fn disabled(mut self) -> Registration {
        self.enabled = false;
        self
    }

    /// With this metadata besides.
    pub fn metadata(mut self, key: &str, value: &str) -> Registration {
        self.metadata.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Stays without heartbeats.
    pub fn persistent(mut self) -> Registration {
        self.ephemeral = false;
        self
    }

    fn parameters(&self) -> Vec<(&'static str, String)> {
        let metadata = serde_json::to_string(&self.metadata).expect("texts are JSON");
        let mut parameters = self.place();
        parameters.extend([
            ("weight", self.weight.to_string()),
            ("enabled", self.enabled.to_string()),
            ("healthy", "true".to_owned()),
            ("metadata", metadata),
        ]);
        parameters
    }

    fn place(&self) -> Vec<(&'static str, String)> {
        vec![
            ("serviceName", self.service.clone()),
            ("groupName", self.group.clone()),
            ("namespaceId", self.namespace.clone()),
            ("ip", self.address.ip().to_string()),
            ("port", self.address.port().to_string()),
            ("clusterName", self.cluster.clone()),
            ("ephemeral", self.ephemeral.to_string()),
        ]
    }
}

/// An instance as the server lists it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    /// Address.
    pub ip: String,
    /// Port.
    pub port: u16,
    /// Weight.
    pub weight: f64,
    /// Healthy as the server says, which protection rewrites.
    pub healthy: bool,
    /// Takes traffic; lists for clients hold no others.
    pub enabled: bool,
    /// Ends with its client.
    pub ephemeral: bool,
    /// Cluster.
    pub cluster_name: String,
    /// Metadata.
    pub metadata: BTreeMap<String, String>,
}

impl Listed {
    /// Where it listens.
    ///
    /// # Panics
    /// When its address is none.
    pub fn address(&self) -> SocketAddr {
        (self.ip.parse::<std::net::IpAddr>().expect("a test registers addresses"), self.port).into()
    }
}

/// A list as the server gives it to clients.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct List {
    /// Instances.
    pub hosts: Vec<Listed>,
    /// Healthy was rewritten to true.
    #[serde(default)]
    pub reach_protection_threshold: bool,
    /// When the list was made, ms since 1970.
    #[serde(default)]
    pub last_ref_time: u64,
}

/// A client of the API.
#[derive(Clone, Debug)]
pub struct OpenApi {
    to: SocketAddr,
    token: Option<String>,
}

impl OpenApi {
    /// Without user.
    pub fn anonymous(to: SocketAddr) -> OpenApi {
        OpenApi { to, token: None }
    }

    /// With a token for this user.
    ///
    /// # Errors
    /// When the server does not let it in.
    pub async fn login(to: SocketAddr, login: &Login) -> anyhow::Result<OpenApi> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Token {
            access_token: String,
        }
        let parameters = [("username", login.user.clone()), ("password", login.password.clone())];
        let text = OpenApi::anonymous(to).form("/nacos/v1/auth/login", &parameters).await?;
        let token: Token = serde_json::from_str(&text).with_context(|| text.clone())?;
        Ok(OpenApi { to, token: Some(token.access_token) })
    }

    /// Makes the first user of an empty Java server, `nacos`.
    ///
    /// # Errors
    /// When there is one already.
    pub async fn make_administrator(&self, password: &str) -> anyhow::Result<()> {
        let text = self.form("/nacos/v3/auth/user/admin", &[("password", password.to_owned())]).await?;
        ensure!(text.contains("\"code\":0"), "{text}");
        Ok(())
    }

    /// Registers; the server hears no heartbeats of it.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn register(&self, instance: &Registration) -> anyhow::Result<()> {
        self.call(Method::POST, "/nacos/v1/ns/instance", &instance.parameters()).await.map(drop)
    }

    /// Changes weight, metadata and enabled, as an operator at the console does.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn change(&self, instance: &Registration) -> anyhow::Result<()> {
        self.call(Method::PUT, "/nacos/v1/ns/instance", &instance.parameters()).await.map(drop)
    }

    /// Deregisters.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn deregister(&self, instance: &Registration) -> anyhow::Result<()> {
        self.call(Method::DELETE, "/nacos/v1/ns/instance", &instance.place()).await.map(drop)
    }

    /// Tells the server that the instance lives, as a client without gRPC does every 5 s.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn beat(&self, instance: &Registration) -> anyhow::Result<()> {
        self.call(Method::PUT, "/nacos/v1/ns/instance/beat", &instance.place()).await.map(drop)
    }

    /// The list that clients get.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn list(&self, namespace: &str, group: &str, service: &str) -> anyhow::Result<List> {
        let parameters = [
            ("namespaceId", namespace.to_owned()),
            ("groupName", group.to_owned()),
            ("serviceName", service.to_owned()),
        ];
        let text = self.call(Method::GET, "/nacos/v1/ns/instance/list", &parameters).await?;
        serde_json::from_str(&text).with_context(|| text.clone())
    }

    /// The list of a service of group `DEFAULT_GROUP` in namespace `public`.
    ///
    /// # Panics
    /// When the server does not answer.
    pub async fn instances(&self, service: &str) -> Vec<Listed> {
        self.list("public", "DEFAULT_GROUP", service).await.expect("the server lists a service").hosts
    }

    /// Sets the protection threshold of a service of group `DEFAULT_GROUP` in namespace `public`.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn protect(&self, service: &str, threshold: f64) -> anyhow::Result<()> {
        let parameters = [("serviceName", service.to_owned()), ("protectThreshold", threshold.to_string())];
        self.call(Method::PUT, "/nacos/v1/ns/service", &parameters).await.map(drop)
    }

    /// Makes a namespace of this id; the path of version 3, else the one of version 1 that rnacos has.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn make_namespace(&self, id: &str) -> anyhow::Result<()> {
        let name = |key: &'static str| (key, id.to_owned());
        let newer = [name("namespaceId"), name("namespaceName")];
        if self.form("/nacos/v3/admin/core/namespace", &newer).await.is_ok() {
            return Ok(());
        }
        let older = [name("customNamespaceId"), name("namespaceName")];
        self.form("/nacos/v1/console/namespaces", &older).await.map(drop)
    }

    /// Publishes a document of the configuration.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn publish(&self, group: &str, document: &str, content: &str) -> anyhow::Result<()> {
        let mut parameters = vec![("group", group.to_owned()), ("dataId", document.to_owned())];
        parameters.push(("content", content.to_owned()));
        parameters.extend(self.token.clone().map(|token| ("accessToken", token)));
        let text = self.form("/nacos/v1/cs/configs", &parameters).await?;
        ensure!(text.trim() == "true", "{text}");
        Ok(())
    }

    /// Removes a document of the configuration.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn remove(&self, group: &str, document: &str) -> anyhow::Result<()> {
        let parameters = [("group", group.to_owned()), ("dataId", document.to_owned())];
        self.call(Method::DELETE, "/nacos/v1/cs/configs", &parameters).await.map(drop)
    }

    /// A document of the configuration; `None` where there is none.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn document(&self, group: &str, document: &str) -> anyhow::Result<Option<String>> {
        let parameters = [("group", group.to_owned()), ("dataId", document.to_owned())];
        let answer = self.answer(Method::GET, "/nacos/v1/cs/configs", &parameters).await?;
        match answer.status {
            200 => Ok(Some(answer.text())),
            404 => Ok(None),
            status => anyhow::bail!("{status}: {}", answer.text()),
        }
    }

    /// A GET of any path.
    ///
    /// # Errors
    /// When no whole answer comes.
    pub async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.send(Method::GET, path, &[], String::new()).await
    }

    async fn call(&self, method: Method, path: &str, parameters: &[(&str, String)]) -> anyhow::Result<String> {
        let answer = self.answer(method.clone(), path, parameters).await?;
        ensure!(answer.status == 200, "{method} {path}: {} {}", answer.status, answer.text());
        Ok(answer.text())
    }

    async fn answer(&self, method: Method, path: &str, parameters: &[(&str, String)]) -> anyhow::Result<Answer> {
        let token = self.token.clone().map(|token| ("accessToken", token));
        let parameters: Vec<_> = parameters.iter().cloned().chain(token).collect();
        self.send(method, &format!("{path}?{}", encoded(&parameters)), &[], String::new()).await
    }

    async fn form(&self, path: &str, parameters: &[(&str, String)]) -> anyhow::Result<String> {
        let kind = [("content-type", "application/x-www-form-urlencoded")];
        let answer = self.send(Method::POST, path, &kind, encoded(parameters)).await?;
        ensure!(answer.status == 200, "POST {path}: {} {}", answer.status, answer.text());
        Ok(answer.text())
    }

    async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: String) -> anyhow::Result<Answer> {
        let mut connection = Connection::open(self.to, Version::Http1).await?;
        connection.send(request(method, &self.to.to_string(), path, headers, full(body))).await
    }
}

/// Parameters as forms and queries have them.
fn encoded(parameters: &[(&str, String)]) -> String {
    let mut text = String::new();
    for (name, value) in parameters {
        let _ = write!(text, "{}{name}=", if text.is_empty() { "" } else { "&" });
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                text.push(char::from(byte));
            } else {
                let _ = write!(text, "%{byte:02X}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_query_may_not_hold_is_escaped() {
        let parameters = [("a", "x y&z=ü".to_owned()), ("b", "{\"k\":\"v\"}".to_owned())];
        assert_eq!(encoded(&parameters), "a=x%20y%26z%3D%C3%BC&b=%7B%22k%22%3A%22v%22%7D");
    }
}
