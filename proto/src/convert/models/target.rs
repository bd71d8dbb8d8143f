//! Targets of virtual models ↔ model.

use mesh_core::model::model_route::{Can, Capabilities, Credential, ModelEndpoint, ModelTarget, Security, Word};

use super::{filled, tokens, word};
use crate::{
    convert::{Invalid, required},
    mesh::v1::{self as wire, credential::Place, external_endpoint::Security as WireSecurity, model_target::Endpoint},
};

pub(super) fn to_wire(target: &ModelTarget) -> wire::ModelTarget {
    wire::ModelTarget {
        name: target.name.clone(),
        provider: target.provider.word().to_owned(),
        endpoint: Some(endpoint_to_wire(&target.endpoint)),
        model: target.model.clone().unwrap_or_default(),
        credential: target.credential.as_ref().map(credential_to_wire),
        priority: target.priority,
        weight: target.weight,
        lane: target.lane.clone().unwrap_or_default(),
        context_window: target.context_window.unwrap_or_default(),
        capabilities: Some(capabilities_to_wire(&target.capabilities)),
        limits: target.limits.iter().map(tokens::limit_to_wire).collect(),
    }
}

pub(super) fn from_wire(target: wire::ModelTarget) -> Result<ModelTarget, Invalid> {
    let capabilities = required("model_target.capabilities", target.capabilities)?;
    Ok(ModelTarget {
        name: target.name,
        provider: word("model_target.provider", &target.provider)?,
        endpoint: endpoint_from_wire(required("model_target.endpoint", target.endpoint)?)?,
        model: filled(target.model),
        credential: target.credential.map(credential_from_wire).transpose()?,
        priority: target.priority,
        weight: target.weight,
        lane: filled(target.lane),
        context_window: Some(target.context_window).filter(|tokens| *tokens > 0),
        capabilities: Capabilities {
            tools: can(capabilities.tools),
            json: can(capabilities.json),
            vision: can(capabilities.vision),
            prefill: can(capabilities.prefill),
            long_context: can(capabilities.long_context),
            refused_content: can(capabilities.refused_content),
            usage: word("capabilities.usage", &capabilities.usage)?,
        },
        limits: target.limits.into_iter().map(tokens::limit_from_wire).collect::<Result<_, _>>()?,
    })
}

fn endpoint_to_wire(endpoint: &ModelEndpoint) -> Endpoint {
    match endpoint {
        ModelEndpoint::External { security, host, port, prefix, proxy } => Endpoint::External(wire::ExternalEndpoint {
            host: host.clone(),
            port: (*port).into(),
            prefix: prefix.clone(),
            security: Some(match security {
                Security::None => WireSecurity::Plain(true),
                Security::SystemRoots => WireSecurity::SystemRoots(true),
                Security::Roots(file) => WireSecurity::Roots(file.clone()),
            }),
            proxy: proxy.clone().unwrap_or_default(),
        }),
        ModelEndpoint::Service { authority, prefix } => {
            Endpoint::Service(wire::ServiceEndpoint { authority: authority.clone(), prefix: prefix.clone() })
        }
    }
}

fn endpoint_from_wire(endpoint: Endpoint) -> Result<ModelEndpoint, Invalid> {
    let external = match endpoint {
        Endpoint::Service(service) => {
            return Ok(ModelEndpoint::Service { authority: service.authority, prefix: service.prefix });
        }
        Endpoint::External(external) => external,
    };
    let port = u16::try_from(external.port).ok().filter(|port| *port != 0);
    Ok(ModelEndpoint::External {
        // Absent is an error, not plaintext: a key must never leave in the clear because a peer is newer.
        security: match required("external_endpoint.security", external.security)? {
            WireSecurity::Plain(_) => Security::None,
            WireSecurity::SystemRoots(_) => Security::SystemRoots,
            WireSecurity::Roots(file) => Security::Roots(file),
        },
        host: external.host,
        port: port.ok_or_else(|| Invalid::value("external_endpoint.port", "is no port"))?,
        prefix: external.prefix,
        proxy: filled(external.proxy),
    })
}

pub(super) fn credential_to_wire(credential: &Credential) -> wire::Credential {
    let place = match credential {
        Credential::File(path) => Place::File(path.clone()),
        Credential::Secret { name, key } => Place::Secret(wire::SecretKey { name: name.clone(), key: key.clone() }),
    };
    wire::Credential { place: Some(place) }
}

pub(super) fn credential_from_wire(credential: wire::Credential) -> Result<Credential, Invalid> {
    Ok(match required("credential.place", credential.place)? {
        Place::File(path) => Credential::File(path),
        Place::Secret(secret) => Credential::Secret { name: secret.name, key: secret.key },
    })
}

fn capabilities_to_wire(capabilities: &Capabilities) -> wire::Capabilities {
    wire::Capabilities {
        tools: capabilities.tools == Can::Yes,
        json: capabilities.json == Can::Yes,
        vision: capabilities.vision == Can::Yes,
        prefill: capabilities.prefill == Can::Yes,
        long_context: capabilities.long_context == Can::Yes,
        refused_content: capabilities.refused_content == Can::Yes,
        usage: capabilities.usage.word().to_owned(),
    }
}

fn can(can: bool) -> Can {
    if can { Can::Yes } else { Can::No }
}
