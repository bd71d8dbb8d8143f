//! A target of a virtual model, and where its key is.

use super::{endpoint, tokens};
use crate::{
    model::{
        lane::LaneRef,
        model_route::{
            Can, Capabilities, Credential, ModelEndpoint, ModelTarget, Provider, UsageInStreams, Word, model_name,
        },
    },
    resources::{
        node::{Node, Object},
        wording::shortened,
    },
};

/// Greatest priority number.
const PRIORITY_MAX: u64 = 1_000;
/// Greatest weight.
const WEIGHT_MAX: u64 = 10_000;
/// Weight unless written.
const WEIGHT: u32 = 1;
/// Greatest window that may be said, tokens.
const WINDOW_MAX: u64 = 1_000_000_000;
/// Longest name of a key of a secret (Kubernetes).
const KEY_NAME_MAX: usize = 253;

/// Reads a target.
pub(super) fn read(node: &Node<'_>, namespace: &str) -> Option<ModelTarget> {
    let fields = [
        "name",
        "provider",
        "endpoint",
        "model",
        "credential",
        "priority",
        "weight",
        "lane",
        "contextWindow",
        "capabilities",
        "limits",
    ];
    let object = node.object(&fields)?;
    let name = object.required("name").and_then(|node| node.dns_name());
    let provider = object.required("provider").and_then(|node| node.choice(Provider::WORDS));
    let endpoint = object.required("endpoint").and_then(|node| endpoint::read(&node, namespace));
    let number = |key, max| object.get(key).and_then(|node| node.integer(0..=max)).map(|number| number as u32);
    let target = ModelTarget {
        credential: object.get("credential").and_then(|node| credential(&node)),
        model: object.get("model").and_then(|node| model(&node)),
        priority: number("priority", PRIORITY_MAX).unwrap_or(0),
        weight: number("weight", WEIGHT_MAX).unwrap_or(WEIGHT),
        lane: object.get("lane").and_then(|node| node.parsed_saying::<LaneRef>()).map(|lane| lane.to_string()),
        context_window: object.get("contextWindow").and_then(|node| node.integer(1..=WINDOW_MAX)),
        capabilities: capabilities(&object, provider),
        limits: tokens::limits(&object),
        name: name?,
        provider: provider?,
        endpoint: endpoint?,
    };
    if object.get("credential").is_none() && needs_key(&target) {
        let message = format!("missing: {} answers nobody without a key", target.provider.as_str());
        object.problem("credential", message);
    }
    Some(target)
}

/// Whether it is a provider's own service, where nobody is let in without a key.
fn needs_key(target: &ModelTarget) -> bool {
    match (&target.endpoint, target.provider) {
        (ModelEndpoint::Service { .. }, _) | (_, Provider::Vllm | Provider::OpenaiCompatible) => false,
        (
            ModelEndpoint::External { .. },
            Provider::Openai | Provider::Anthropic | Provider::Gemini | Provider::Azure | Provider::Dashscope,
        ) => true,
    }
}

fn model(node: &Node<'_>) -> Option<String> {
    let text = node.text()?;
    if let Err(error) = model_name(&text) {
        node.problem(format!("{:?} {error}", shortened(&text)));
    }
    Some(text)
}

/// Where a key is. What was written instead is not repeated in problems: it may be the key.
pub(super) fn credential(node: &Node<'_>) -> Option<Credential> {
    const EXPECTED: &str = "expected {file: /path} or {secret: {name, key}}; a key itself never stands in a resource";
    if node.as_text().is_some() {
        node.problem(EXPECTED.to_owned());
        return None;
    }
    let object = node.object(&["file", "secret"])?;
    match (object.get("file"), object.get("secret")) {
        (Some(file), None) => endpoint::absolute_path(&file).map(Credential::File),
        (None, Some(secret)) => {
            let secret = secret.object(&["name", "key"])?;
            let name = secret.required("name").and_then(|node| node.dns_name());
            let key = secret.required("key").and_then(|node| key_name(&node));
            Some(Credential::Secret { name: name?, key: key? })
        }
        (Some(_), Some(_)) | (None, None) => {
            node.problem(EXPECTED.to_owned());
            None
        }
    }
}

/// The name of a key of a secret, which is the name of a file.
fn key_name(node: &Node<'_>) -> Option<String> {
    let text = node.text()?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if text.is_empty() || text.len() > KEY_NAME_MAX || !text.bytes().all(fits) || text.starts_with("..") || text == "."
    {
        let message = format!("{:?} is no key of a secret: letters, digits and - _ . only", shortened(&text));
        node.problem(message);
    }
    Some(text)
}

fn capabilities(target: &Object<'_>, provider: Option<Provider>) -> Capabilities {
    let default = Capabilities::default();
    let fields = ["tools", "json", "vision", "prefill", "longContext", "refusedContent", "usage"];
    let Some(object) = target.get("capabilities").and_then(|node| node.object(&fields)) else { return default };
    let can = |key, default| match object.get(key).and_then(|node| node.boolean()) {
        Some(true) => Can::Yes,
        Some(false) => Can::No,
        None => default,
    };
    let usage = object.get("usage").and_then(|node| node.choice(UsageInStreams::WORDS)).unwrap_or_default();
    if let Some(provider) = provider.filter(|_| usage == UsageInStreams::Continuous)
        && !matches!(provider, Provider::Vllm | Provider::OpenaiCompatible)
    {
        let message = format!("continuous is vLLM's; {} does not know it", provider.as_str());
        object.problem("usage", message);
    }
    Capabilities {
        tools: can("tools", default.tools),
        json: can("json", default.json),
        vision: can("vision", default.vision),
        prefill: can("prefill", default.prefill),
        long_context: can("longContext", default.long_context),
        refused_content: can("refusedContent", default.refused_content),
        usage,
    }
}
