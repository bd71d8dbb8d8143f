//! Streams in the shapes that providers document, `streams/*.sse`, as a client of another dialect gets them: whole where they
//! were whole, never where they were not, and with the same tokens.

use std::ops::Range;

use mesh_core::{
    model::model_route::{Api, Dialect},
    model_route::{
        stream::Reader,
        translate::{Stream, UsageChunk, toward},
    },
};

/// A stream: its name, whose it is, and its bytes.
type Sample = (String, Api, Vec<u8>);

/// Streams of APIs that are translated. Those of several answers are not: who asks for them is refused.
fn samples() -> Vec<Sample> {
    let folder = format!("{}/tests/streams", env!("CARGO_MANIFEST_DIR"));
    let mut samples = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the streams are in a folder") {
        let path = entry.expect("an entry of the folder").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let api = match name.split('-').next() {
            Some("anthropic") => Api::Messages,
            Some("gemini") => Api::GenerateContent,
            _ if name.contains("completions") || name.contains("responses") => continue,
            _ => Api::ChatCompletions,
        };
        if !name.contains("two-choices") && !name.contains("two-candidates") {
            samples.push((name, api, std::fs::read(path).expect("a stream is readable")));
        }
    }
    samples
}

/// Events of a stream, up to the first that says that the target failed, which is where a proxy stops translating.
fn events(reader: &mut Reader, bytes: &[u8]) -> (Vec<Range<usize>>, Option<usize>) {
    let mut events = Vec::new();
    let mut failed = None;
    reader.feed(bytes, &mut |event| {
        if event.says.failed.is_some() {
            failed.get_or_insert(events.len());
        }
        events.push(event.from as usize..event.to as usize);
    });
    (events, failed)
}

#[test]
fn documented_streams_are_whole_in_another_dialect_where_they_were_whole() {
    let mut translated = 0;
    for (name, from, bytes) in samples() {
        let mut source = Reader::new(from, 1);
        let (events, failed) = events(&mut source, &bytes);
        for to in [Api::ChatCompletions, Api::Messages] {
            if to == from || toward(to, from.dialect()) != Some(from) {
                continue;
            }
            let mut stream = Stream::new(from, to, "virtual", UsageChunk::Wanted);
            let mut out = Vec::new();
            let mut said = Ok(());
            for event in events[..failed.unwrap_or(events.len())].iter().cloned() {
                said = said.and_then(|()| stream.event(&bytes[event], &mut out));
            }
            if name == "openai-chat-audio" {
                assert_eq!(said.expect_err("sound has no counterpart").member, "choices[0].delta.audio");
                continue;
            }
            assert_eq!(said, Ok(()), "{name} to {to:?}");
            stream.finish(&mut out);
            let mut reader = Reader::new(to, 1);
            reader.feed(&out, &mut |event| assert_eq!(event.says.failed, None, "{name} to {to:?}"));
            let whole = source.is_finished() && failed.is_none();
            assert_eq!(reader.is_finished(), whole, "{name} to {to:?}: {}", String::from_utf8_lossy(&out));
            if whole && source.usage().is_some() {
                assert_eq!(reader.usage(), source.usage(), "{name} to {to:?}");
            }
            translated += 1;
        }
    }
    assert!(translated > 40, "only {translated} streams");
}

#[test]
fn translated_streams_are_read_back_by_their_own_dialect() {
    // Twice across, and a client still reads what the target wrote.
    for (name, from, bytes) in samples().into_iter().filter(|(_, api, _)| api.dialect() != Dialect::Gemini) {
        let to = if from == Api::Messages { Api::ChatCompletions } else { Api::Messages };
        let mut there = Stream::new(from, to, "virtual", UsageChunk::Wanted);
        let mut back = Stream::new(to, from, "virtual", UsageChunk::Wanted);
        let (mut middle, mut out) = (Vec::new(), Vec::new());
        let mut source = Reader::new(from, 1);
        let (ranges, failed) = events(&mut source, &bytes);
        if failed.is_some() || !source.is_finished() || name == "openai-chat-audio" {
            continue;
        }
        for event in ranges {
            there.event(&bytes[event], &mut middle).expect("a documented stream is translated");
        }
        there.finish(&mut middle);
        let (ranges, _) = events(&mut Reader::new(to, 1), &middle);
        for event in ranges {
            back.event(&middle[event], &mut out).expect("a translated stream is translated");
        }
        back.finish(&mut out);
        let mut reader = Reader::new(from, 1);
        reader.feed(&out, &mut |_| {});
        assert!(reader.is_finished(), "{name}");
        if source.usage().is_some() {
            assert_eq!(reader.usage(), source.usage(), "{name}");
        }
    }
}
