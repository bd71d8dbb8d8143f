//! Arbitrary model routes.

use std::{sync::Arc, time::Duration};

use mesh_core::{
    model::model_route::{
        BODY_MAX, Can, Capabilities, Counted, Credential, Drill, Driller, Escalate, Hedge, KeyPart, Limit, LimitMode,
        LimitStore, MidStream, ModelEndpoint, ModelRetry, ModelRoute, ModelTarget, ModelTimers, NamePattern,
        OnExhausted, OnStoreDown, Price, Provider, Reason, Security, TokenLimits, UsageInStreams, VirtualModel, Word,
    },
    schema::Schema,
};
use proptest::{
    collection::vec,
    option,
    prelude::*,
    sample::{select, subsequence},
};

use super::{identity, span, word};

pub(super) fn choice<T: Word + std::fmt::Debug>() -> BoxedStrategy<T> {
    select(T::WORDS).prop_map(|(_, choice)| choice).boxed()
}

fn pattern() -> BoxedStrategy<NamePattern> {
    prop_oneof![word().prop_map(NamePattern::Exact), word().prop_map(NamePattern::Prefix), Just(NamePattern::Any)]
        .boxed()
}

fn credential() -> BoxedStrategy<Credential> {
    prop_oneof![
        word().prop_map(Credential::File),
        (word(), word()).prop_map(|(name, key)| Credential::Secret { name, key })
    ]
    .boxed()
}

fn endpoint() -> BoxedStrategy<ModelEndpoint> {
    let security = prop_oneof![Just(Security::None), Just(Security::SystemRoots), word().prop_map(Security::Roots)];
    let external = (security, word(), 1..=u16::MAX, "(/[a-z]{1,4})?", option::of(word())).prop_map(
        |(security, host, port, prefix, proxy)| ModelEndpoint::External { security, host, port, prefix, proxy },
    );
    let service =
        (word(), "(/[a-z]{1,4})?").prop_map(|(authority, prefix)| ModelEndpoint::Service { authority, prefix });
    prop_oneof![external, service].boxed()
}

fn capabilities() -> BoxedStrategy<Capabilities> {
    let can = || prop_oneof![Just(Can::Yes), Just(Can::No)];
    ((can(), can(), can()), (can(), can(), can()), choice::<UsageInStreams>())
        .prop_map(|((tools, json, vision), (prefill, long_context, refused_content), usage)| Capabilities {
            tools,
            json,
            vision,
            prefill,
            long_context,
            refused_content,
            usage,
        })
        .boxed()
}

fn limit() -> BoxedStrategy<Limit> {
    (choice::<Counted>(), any::<u64>(), span(), choice::<LimitMode>())
        .prop_map(|(of, amount, window, mode)| Limit { of, amount, window, mode })
        .boxed()
}

fn target() -> BoxedStrategy<ModelTarget> {
    let who = (word(), choice::<Provider>(), endpoint(), option::of(word()), option::of(credential()));
    let place = (any::<u32>(), any::<u32>(), option::of(word()), option::of(1..=u64::MAX));
    (who, place, capabilities(), vec(limit(), 0..3))
        .prop_map(|(who, (priority, weight, lane, context_window), capabilities, limits)| {
            let (name, provider, endpoint, model, credential) = who;
            ModelTarget {
                name,
                provider,
                endpoint,
                model,
                credential,
                priority,
                weight,
                lane,
                context_window,
                capabilities,
                limits,
            }
        })
        .boxed()
}

fn timers() -> BoxedStrategy<ModelTimers> {
    [span(), span(), span(), span(), span(), span(), span()]
        .prop_map(|[connect, headers, headers_whole, first_token, idle, total, min_remaining]: [Duration; 7]| {
            ModelTimers { connect, headers, headers_whole, first_token, idle, total, min_remaining }
        })
        .boxed()
}

fn model() -> BoxedStrategy<VirtualModel> {
    let reasons = subsequence(Reason::ALL.to_vec(), 0..=Reason::ALL.len());
    let retry =
        (1..=u32::MAX, span(), any::<u32>(), reasons).prop_map(|(attempts, only_within, budget_percent, on)| {
            ModelRetry { attempts, only_within, budget_percent, on }
        });
    let hedge = prop_oneof![Just(Hedge::Off), Just(Hedge::AfterP95), span().prop_map(Hedge::After)];
    let schema = word().prop_map(|name| {
        let required = serde_json::Value::from(vec![name]);
        Schema::new(serde_json::json!({ "type": "object", "required": required })).ok()
    });
    let schema = prop_oneof![Just(None), schema];
    let escalate = (any::<bool>(), vec(word(), 0..3), option::of(vec(word(), 0..3)), schema)
        .prop_map(|(on_length, refusals, json, schema)| Escalate { on_length, refusals, json, schema });
    let ends = (choice::<OnExhausted>(), choice::<MidStream>());
    (pattern(), vec(target().prop_map(Arc::new), 1..4), timers(), retry, hedge, escalate, ends)
        .prop_map(|(name, targets, timers, retry, hedge, escalate, (on_exhausted, mid_stream))| VirtualModel {
            name,
            targets,
            timers,
            retry,
            hedge,
            escalate,
            on_exhausted,
            mid_stream,
        })
        .boxed()
}

pub(super) fn store() -> BoxedStrategy<LimitStore> {
    let redis = (word(), option::of(credential())).prop_map(|(url, password)| LimitStore::Redis { url, password });
    prop_oneof![Just(LimitStore::Local), redis].boxed()
}

fn tokens() -> BoxedStrategy<TokenLimits> {
    let part = prop_oneof![
        Just(KeyPart::Identity),
        Just(KeyPart::Namespace),
        Just(KeyPart::Lane),
        word().prop_map(KeyPart::Header),
    ];
    let price = (pattern(), any::<u64>(), any::<u64>(), any::<u64>())
        .prop_map(|(model, input, cached, output)| Price { model, input, cached, output });
    (vec(limit(), 0..3), vec(part, 0..3), store(), choice::<OnStoreDown>(), vec(price, 0..3))
        .prop_map(|(limits, key, store, on_store_down, prices)| TokenLimits {
            limits,
            key,
            store,
            on_store_down,
            prices,
        })
        .boxed()
}

/// A model route.
pub(in crate::convert) fn route() -> BoxedStrategy<ModelRoute> {
    let driller = prop_oneof![
        identity().prop_map(Driller::Identity),
        (word(), word()).prop_map(|(namespace, name)| Driller::Account { namespace, name }),
        word().prop_map(Driller::Namespace),
    ];
    let drill = vec(driller, 0..3).prop_map(|allow| Drill { allow });
    (word(), vec(word(), 1..3), vec(model().prop_map(Arc::new), 0..3), tokens(), drill, 0..=BODY_MAX)
        .prop_map(|(name, hosts, models, tokens, drill, body_limit)| ModelRoute {
            name,
            hosts,
            models,
            tokens,
            drill,
            body_limit,
        })
        .boxed()
}
