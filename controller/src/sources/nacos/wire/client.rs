//! What is asked of a server, one function each.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use http::Method;
use mesh_core::discovery::nacos::{Listing, Name, name::PUBLIC};
use serde::Deserialize;
use tokio::time::{sleep, timeout};

use super::{
    CALL_TIMEOUT, Cause, Config, Error, Instance, Listened,
    http::{Answer, Ask, ask},
    lenient::Text,
    link::{Shared, State},
    message::{
        self, ConfigQueried, ConfigQuery, InstanceChange, Instances, Listed, Query, Request, ServiceList,
        ServicesListed, Subscribe,
    },
    session::Session,
};

/// Names of services that are asked for at once.
const SERVICES_PAGE: u32 = 1_000;
/// Names of services of one group that are taken, more than any registry is known to have.
const SERVICES_MAX: usize = 200_000;
/// Configurations that are listed at once: one API lists them with their content.
const CONFIGS_PAGE: usize = 50;
/// Configurations of one group that are listed.
const CONFIGS_MAX: usize = 2_000;
/// Code of the answer to a query for a configuration that is not there.
const NOT_FOUND: i64 = 300;
/// Code of the answer to a query for a configuration that is being changed at this moment; it is asked for again …
const BEING_CHANGED: i64 = 400;
/// … after this time …
const CHANGE_WAIT: Duration = Duration::from_millis(100);
/// … and this many times in all.
const CHANGE_ATTEMPTS: u32 = 20;

/// Asks, over the connection of this moment. Nothing is kept for a connection that comes later; see
/// [the module](super). Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client(Arc<Shared>);

impl Client {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Client(shared)
    }

    /// Begins to be told of a service, and returns its list of this moment. A service that does not exist is an empty
    /// one.
    ///
    /// # Errors
    /// When the server does not do it.
    pub async fn subscribe(&self, name: &Name) -> Result<Listing, Error> {
        let request = Subscribe { service: name.into(), subscribe: true, clusters: "" };
        self.listing::<Subscribe<'_>>(self.call(&request).await?, name)
    }

    /// No longer wants to be told.
    ///
    /// # Errors
    /// When the server does not do it.
    pub async fn unsubscribe(&self, name: &Name) -> Result<(), Error> {
        let request = Subscribe { service: name.into(), subscribe: false, clusters: "" };
        self.call(&request).await.map(drop)
    }

    /// The list of a service at this moment, with unhealthy instances, without those that are not enabled.
    ///
    /// # Errors
    /// When the server does not give it.
    pub async fn query(&self, name: &Name) -> Result<Listing, Error> {
        let request = Query { service: name.into(), cluster: "", healthy_only: false, udp_port: 0 };
        self.listing::<Query<'_>>(self.call(&request).await?, name)
    }

    /// Names of all services of a group, without the group.
    ///
    /// # Errors
    /// When the server does not give them, or there are too many.
    pub async fn services(&self, group: &str) -> Result<BTreeSet<String>, Error> {
        let name = Name::new(&self.0.options.namespace, group, "");
        let mut found = BTreeSet::new();
        for page_no in 1.. {
            let group = (&name).into();
            let request = ServiceList { group, page_no, page_size: SERVICES_PAGE, selector: "" };
            let page: ServicesListed = self.call(&request).await?;
            let total = usize::try_from(page.count.0).unwrap_or_default();
            let before = found.len();
            found.extend(page.names());
            if found.len() > SERVICES_MAX {
                let cause = Cause::Malformed(format!("more than {SERVICES_MAX} services"));
                return Err(self.error(ServiceList::CLASS, cause));
            }
            // A page that brings nothing is the last one, whatever the server says of their number.
            if found.len() >= total || found.len() == before {
                break;
            }
        }
        Ok(found)
    }

    /// Registers an instance of a service, or changes it. It ends with the connection.
    ///
    /// # Errors
    /// When the server does not do it.
    pub async fn register(&self, name: &Name, instance: &Instance) -> Result<(), Error> {
        self.instance(name, instance, "registerInstance").await
    }

    /// Takes an instance back.
    ///
    /// # Errors
    /// When the server does not do it.
    pub async fn deregister(&self, name: &Name, instance: &Instance) -> Result<(), Error> {
        self.instance(name, instance, "deregisterInstance").await
    }

    async fn instance(&self, name: &Name, instance: &Instance, change: &str) -> Result<(), Error> {
        self.call(&InstanceChange { service: name.into(), r#type: change, instance }).await.map(drop)
    }

    /// Registers several instances of a service: those and no others are this connection's. One connection has one
    /// instance of a service unless they are registered together like this.
    ///
    /// # Errors
    /// When the server does not do it.
    pub async fn register_all(&self, name: &Name, instances: &[Instance]) -> Result<(), Error> {
        let request = Instances { service: name.into(), r#type: "batchRegisterInstance", instances };
        self.call(&request).await.map(drop)
    }

    /// A configuration, if there is one.
    ///
    /// # Errors
    /// When the server does not say.
    pub async fn config(&self, data_id: &str, group: &str) -> Result<Option<Config>, Error> {
        let request = ConfigQuery { data_id, group, tenant: self.0.options.tenant() };
        for _ in 1..CHANGE_ATTEMPTS {
            match self.call(&request).await {
                Err(Error { cause: Cause::Refused { code: BEING_CHANGED, .. }, .. }) => sleep(CHANGE_WAIT).await,
                answered => return found(answered),
            }
        }
        found(self.call(&request).await)
    }

    /// Begins to be told of configurations, also of those that are not there yet; returns which differ from what is
    /// known, by id and group.
    ///
    /// # Errors
    /// When the server does not do it.
    pub async fn listen(&self, listened: &[Listened]) -> Result<Vec<(String, String)>, Error> {
        let changed = self.call(&self.listening(listened, true)).await?.changed_configs.unwrap_or_default();
        Ok(changed.into_iter().map(|changed| (changed.data_id.0, changed.group.0)).collect())
    }

    /// No longer wants to be told of configurations.
    ///
    /// # Errors
    /// When the server does not do it.
    pub async fn unlisten(&self, listened: &[Listened]) -> Result<(), Error> {
        self.call(&self.listening(listened, false)).await.map(drop)
    }

    fn listening<'a>(&'a self, listened: &'a [Listened], listen: bool) -> message::Listen<'a> {
        let tenant = self.0.options.tenant();
        let context = |listened: &'a Listened| {
            let Listened { data_id, group, md5 } = listened;
            message::Listened { data_id, group, tenant, md5 }
        };
        message::Listen { listen, config_listen_contexts: listened.iter().map(context).collect() }
    }

    /// Ids of the configurations of a group that end in `ending`. Asked over HTTP: gRPC has no request for it.
    ///
    /// # Errors
    /// When the server does not give them, or there are too many.
    pub async fn configs(&self, group: &str, ending: &str) -> Result<BTreeSet<String>, Error> {
        let (tenant, size) = (self.0.options.tenant(), CONFIGS_PAGE.to_string());
        let mut found = BTreeSet::new();
        for page in 1..=CONFIGS_MAX.div_ceil(CONFIGS_PAGE) + 1 {
            let page = page.to_string();
            let paging = [("pageNo", page.as_str()), ("pageSize", size.as_str()), ("search", "blur")];
            let [no, size, search] = paging;
            // Not by a pattern of ids: servers differ in what `*` means.
            let newer = [no, size, search, ("dataId", ""), ("groupName", group), ("namespaceId", tenant)];
            let older = [no, size, search, ("dataId", ""), ("group", group), ("tenant", tenant)];
            let paths = [("/v3/admin/cs/config/list", &newer[..]), ("/v1/cs/configs", &older[..])];
            let (answer, path) = self.get("configuration list", &paths).await?;
            let listed: Page = match path {
                0 => answer.data(),
                _ => answer.json(),
            }
            .map_err(|cause| self.error("configuration list", cause))?;
            let items = listed.page_items.unwrap_or_default();
            let is_last = items.len() < CONFIGS_PAGE;
            let is_wanted = |item: &Item| item.is_of(group) && item.data_id.0.ends_with(ending);
            found.extend(items.into_iter().filter(is_wanted).map(|item| item.data_id.0));
            if is_last {
                return Ok(found);
            }
        }
        let cause = Cause::Malformed(format!("more than {CONFIGS_MAX} configurations"));
        Err(self.error("configuration list", cause))
    }

    /// Checks that the server has the namespace of this connection: for one that it does not have it answers with empty
    /// lists, and takes registrations.
    ///
    /// # Errors
    /// When it has not, or does not say which it has.
    pub async fn check_namespace(&self) -> Result<(), Error> {
        let namespace = &self.0.options.namespace;
        let known = self.namespaces().await?;
        if known.contains(namespace) {
            return Ok(());
        }
        let (namespace, known) = (namespace.clone(), known.into_iter().collect());
        Err(self.error("namespace list", Cause::UnknownNamespace { namespace, known }))
    }

    /// Ids of the namespaces that the server has. Asked over HTTP: gRPC has no request for it.
    ///
    /// # Errors
    /// When the server does not give them.
    pub async fn namespaces(&self) -> Result<BTreeSet<String>, Error> {
        let paths = [("/v3/admin/core/namespace/list", &[][..]), ("/v1/console/namespaces", &[][..])];
        let (answer, _) = self.get("namespace list", &paths).await?;
        let listed: Vec<Namespace> = answer.data().map_err(|cause| self.error("namespace list", cause))?;
        let id = |Namespace { namespace: Text(id) }| if id.is_empty() { PUBLIC.to_owned() } else { id };
        Ok(listed.into_iter().map(id).collect())
    }

    /// Asks for the first of these paths that the server knows; with it comes which one.
    async fn get(&self, request: &'static str, paths: &[(&str, &[(&str, &str)])]) -> Result<(Answer, usize), Error> {
        let session = self.session(request)?;
        let (token, count) = self.token();
        let answered = match get(&session, &self.0, token.as_deref(), paths).await {
            Ok((answer, _)) if matches!(answer.status, 401 | 403) && self.logs_in() => {
                self.logged_in_after(count).await?;
                get(&session, &self.0, self.token().0.as_deref(), paths).await
            }
            answered => answered,
        };
        answered.map_err(|cause| Error { server: Arc::clone(&session.server), request, cause })
    }

    /// Asks, a second time after a new login where the first time it was not allowed.
    async fn call<R: Request>(&self, request: &R) -> Result<R::Response, Error> {
        let _turn = self.0.calls.acquire().await.expect("nobody closes it");
        let session = self.session(R::CLASS)?;
        let (token, count) = self.token();
        match session.call(token.as_deref(), request).await {
            Err(Error { cause: Cause::Denied { .. }, .. }) if self.logs_in() => {
                self.logged_in_after(count).await?;
                session.call(self.token().0.as_deref(), request).await
            }
            answered => answered,
        }
    }

    fn session(&self, request: &'static str) -> Result<Arc<Session>, Error> {
        match &*self.0.state.borrow() {
            State::Up(session) => Ok(Arc::clone(session)),
            State::Down(reason) => {
                let reason = reason.as_ref().map(ToString::to_string);
                Err(self.error(request, Cause::NotConnected(reason.unwrap_or_else(|| "not yet made".to_owned()))))
            }
        }
    }

    fn logs_in(&self) -> bool {
        self.0.options.login.is_some()
    }

    /// The token of this moment, and of which login it is.
    fn token(&self) -> (Option<Arc<str>>, u64) {
        let logged_in = self.0.login.borrow();
        (logged_in.token.as_ref().map(|token| Arc::clone(&token.value)), logged_in.count)
    }

    /// Waits for a login after the one of that number.
    async fn logged_in_after(&self, count: u64) -> Result<(), Error> {
        let mut login = self.0.login.subscribe();
        if login.borrow().count == count {
            self.0.stale.notify_one();
        }
        let another = login.wait_for(|logged_in| logged_in.count > count);
        match timeout(CALL_TIMEOUT, another).await {
            Ok(Ok(logged_in)) => match &logged_in.failed {
                Some(failed) => Err(self.error("login", Cause::NoLogin(Arc::clone(failed)))),
                None => Ok(()),
            },
            Ok(Err(_)) | Err(_) => Err(self.error("login", Cause::Silent(CALL_TIMEOUT))),
        }
    }

    fn error(&self, request: &'static str, cause: Cause) -> Error {
        Error { server: self.0.options.name.as_str().into(), request, cause }
    }

    fn listing<R: Request>(&self, listed: Listed, name: &Name) -> Result<Listing, Error> {
        let Some(info) = listed.service_info else {
            return Err(self.error(R::CLASS, Cause::Malformed("there is no service in it".to_owned())));
        };
        // Of a service that they do not have some servers do not say the name.
        Ok(Listing { name: name.clone(), ..info.listing(name.namespace()) })
    }
}

async fn get(
    session: &Session,
    shared: &Shared,
    token: Option<&str>,
    paths: &[(&str, &[(&str, &str)])],
) -> Result<(Answer, usize), Cause> {
    let mut last = Err(Cause::Malformed("nothing was asked for".to_owned()));
    for (at, (path, fields)) in paths.iter().enumerate() {
        let request = Ask { method: Method::GET, path, fields, token };
        let answer = ask(&session.address, shared.options.tls.as_ref(), &request).await?;
        let is_known = !answer.is_no_such_path();
        last = Ok((answer, at));
        if is_known {
            break;
        }
    }
    last
}

fn found(answered: Result<ConfigQueried, Error>) -> Result<Option<Config>, Error> {
    match answered {
        Ok(found) => Ok(Some(Config { content: found.content.0, kind: found.content_type.0, md5: found.md5.0 })),
        Err(Error { cause: Cause::Refused { code: NOT_FOUND, .. }, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A page of configurations.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    #[serde(default)]
    page_items: Option<Vec<Item>>,
}

/// One of them.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    #[serde(default)]
    data_id: Text,
    /// Of version 1 of the API.
    #[serde(default)]
    group: Text,
    /// Of version 3.
    #[serde(default)]
    group_name: Text,
}

impl Item {
    /// Servers may list what only contains the name of the group.
    fn is_of(&self, group: &str) -> bool {
        [&self.group, &self.group_name].into_iter().any(|own| own.0 == group)
    }
}

/// A namespace by its id.
#[derive(Deserialize)]
struct Namespace {
    #[serde(default)]
    namespace: Text,
}
