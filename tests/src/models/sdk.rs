//! Applications that call models: the official SDKs of OpenAI and Anthropic in `tests/apps/models/client.py`, one process
//! for all tests, told what to ask and answering with what an application would see.

use std::{
    collections::BTreeMap,
    fs::File,
    os::unix::fs::FileExt as _,
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::Deserialize;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::{
    process::{Process, Spec},
    programs,
    wait::until,
};

/// How long all that one order asks may take, the start of the SDKs on a busy machine included.
const LIMIT: Duration = Duration::from_secs(240);

/// Which versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// Those of today.
    Newest,
    /// Those of long ago.
    Earlier,
}

/// An API and the SDK by which it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// OpenAI's chat completions.
    Chat,
    /// OpenAI's responses.
    Responses,
    /// OpenAI's completions.
    Completions,
    /// OpenAI's embeddings.
    Embeddings,
    /// OpenAI's list of models.
    Models,
    /// Anthropic's messages.
    Messages,
}

impl Api {
    /// APIs that generate text.
    pub const TEXT: [Api; 4] = [Api::Chat, Api::Responses, Api::Completions, Api::Messages];

    /// SDK and name.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Api::Chat => ("openai", "chat"),
            Api::Responses => ("openai", "responses"),
            Api::Completions => ("openai", "completions"),
            Api::Embeddings => ("openai", "embeddings"),
            Api::Models => ("openai", "models"),
            Api::Messages => ("anthropic", "messages"),
        }
    }
}

/// One call to be made.
#[derive(Clone, Debug)]
pub struct Ask {
    fields: Map<String, Value>,
}

impl Ask {
    /// Calls an API at `url` (`http://ip:port`), without stream, by the blocking client, without repeating.
    pub fn new(api: Api, url: &str) -> Ask {
        let (client, name) = api.words();
        // OpenAI's SDK wants the first part of its paths from the application, Anthropic's has it.
        let base = if client == "openai" { format!("{url}/v1") } else { url.to_owned() };
        let fields = [("do", "ask"), ("client", client), ("api", name), ("base_url", &base)];
        Ask { fields: fields.map(|(name, value)| (name.to_owned(), json!(value))).into_iter().collect() }
    }

    fn with(mut self, name: &str, value: impl Into<Value>) -> Ask {
        self.fields.insert(name.to_owned(), value.into());
        self
    }

    /// Wants a stream.
    pub fn stream(self) -> Ask {
        self.with("stream", true)
    }

    /// By the asynchronous client.
    pub fn asynchronous(self) -> Ask {
        self.with("async", true)
    }

    /// Shows this key; without, an application's word for none.
    pub fn key(self, key: &str) -> Ask {
        self.with("key", key)
    }

    /// Model; default `small`.
    pub fn model(self, model: &str) -> Ask {
        self.with("model", model)
    }

    /// The prompt; default three words.
    pub fn prompt(self, prompt: &str) -> Ask {
        self.with("prompt", prompt)
    }

    /// A whole conversation instead of the prompt, as the API has it.
    pub fn messages(self, messages: Value) -> Ask {
        self.with("messages", messages)
    }

    /// Offers the tool `lookup`.
    pub fn tools(self) -> Ask {
        self.with("tools", true)
    }

    /// Further arguments of the call, as they are.
    pub fn more(self, more: Value) -> Ask {
        self.with("more", more)
    }

    /// A header of each request.
    pub fn header(mut self, name: &str, value: &str) -> Ask {
        let headers = self.fields.entry("headers").or_insert_with(|| json!({}));
        headers[name] = json!(value);
        self
    }

    /// How often the SDK repeats.
    pub fn max_retries(self, retries: u32) -> Ask {
        self.with("max_retries", retries)
    }

    /// Goes away after so many tokens.
    pub fn cancel_after(self, tokens: u64) -> Ask {
        self.with("cancel_after", tokens)
    }

    /// Gives up after this time; by the asynchronous client.
    pub fn cancel_in(self, time: Duration) -> Ask {
        let milliseconds = u64::try_from(time.as_millis()).expect("a test waits not for ages");
        self.asynchronous().with("cancel_ms", milliseconds)
    }
}

/// An error that the SDK raised.
#[derive(Clone, Debug, Deserialize)]
pub struct Raised {
    /// Class of the exception, e.g. `RateLimitError`.
    pub class: String,
    /// Status of the answer; none for an error within a stream.
    pub status: Option<u16>,
    /// What it says.
    pub message: String,
    /// `code` of OpenAI's SDK.
    pub code: Value,
    /// `type` of the SDK's exception.
    #[serde(rename = "type")]
    pub kind: Value,
    /// What the SDK calls the body.
    pub body: Value,
}

/// A call of a tool.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Call {
    /// The tool.
    pub name: Option<String>,
    /// JSON text.
    pub arguments: String,
}

/// What the application saw.
#[derive(Clone, Debug, Deserialize)]
pub struct Told {
    /// The text, unless it is longer than 16 KiB.
    pub text: Option<String>,
    /// Words of the text.
    pub words: u64,
    /// Whether the text is `word0 word1 …`, nothing missing, nothing twice.
    pub gapless: bool,
    /// Words of reasoning.
    pub thoughts: u64,
    /// Tools that are called.
    pub calls: Vec<Call>,
    /// Events with text, reasoning or arguments.
    pub tokens: u64,
    /// Events of a stream, as the SDK shows them.
    pub events: u64,
    /// Why the answer ended, in the API's words; none when it did not say.
    pub finish: Option<String>,
    /// Usage, in the API's words; null when there was none.
    pub usage: Value,
    /// Status of the answer.
    pub status: Option<u16>,
    /// Headers of the answer.
    pub headers: BTreeMap<String, String>,
    /// What the SDK raised.
    pub error: Option<Raised>,
    /// Lists: of embeddings, of names of models.
    pub result: Value,
    /// From the call to its end.
    pub elapsed_ms: f64,
    /// From the call to the first token.
    pub first_token_ms: Option<f64>,
    /// On the machine's monotonic clock.
    pub started_ms: f64,
    /// When the application went away, on the machine's monotonic clock.
    pub cancelled_ms: Option<f64>,
}

impl Told {
    /// A header; empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The error.
    ///
    /// # Panics
    /// When the SDK raised none.
    pub fn raised(&self) -> &Raised {
        self.error.as_ref().unwrap_or_else(|| panic!("the SDK raised nothing: {self:?}"))
    }

    /// The whole answer of so many words came, without an error.
    ///
    /// # Panics
    /// When not.
    pub fn assert_whole(&self, words: u64) {
        assert!(self.error.is_none(), "{:?}", self.error);
        assert!(self.gapless && self.words == words && self.finish.is_some(), "not {words} words: {self:?}");
    }

    /// Tokens of the prompt and of the answer, whatever the API calls them.
    pub fn usage(&self) -> Option<(u64, u64)> {
        let figure = |names: [&str; 2]| names.iter().find_map(|name| self.usage[name].as_u64());
        Some((figure(["prompt_tokens", "input_tokens"])?, figure(["completion_tokens", "output_tokens"])?))
    }
}

/// The running SDKs.
pub struct Sdk {
    process: Mutex<Process>,
    answers: Mutex<Answers>,
    next: AtomicU64,
}

/// What the process wrote, read once.
struct Answers {
    file: File,
    read: u64,
    rest: Vec<u8>,
    lines: BTreeMap<u64, Value>,
    /// What is no answer: what Python says when it breaks.
    other: String,
}

#[derive(Deserialize)]
struct Line {
    number: u64,
    answer: Value,
}

impl Sdk {
    /// The SDKs of today.
    pub fn newest() -> &'static Sdk {
        static NEWEST: OnceLock<Sdk> = OnceLock::new();
        NEWEST.get_or_init(|| Sdk::start(Age::Newest))
    }

    /// The SDKs of long ago.
    pub fn earlier() -> &'static Sdk {
        static EARLIER: OnceLock<Sdk> = OnceLock::new();
        EARLIER.get_or_init(|| Sdk::start(Age::Earlier))
    }

    /// The SDKs of this age.
    pub fn of(age: Age) -> &'static Sdk {
        match age {
            Age::Newest => Sdk::newest(),
            Age::Earlier => Sdk::earlier(),
        }
    }

    fn start(age: Age) -> Sdk {
        let python = match age {
            Age::Newest => programs::models_python(),
            Age::Earlier => programs::earlier_models_python(),
        };
        // Nobody drops what all tests share: the file is taken off the disk at once and read on by whoever has it open.
        let folder = TempDir::with_prefix("lanemesh-sdk-").expect("a temporary folder");
        let spec = Spec::new(format!("{age:?} SDKs"), python).arg("-B").arg(programs::app("models").join("client.py"));
        let process = spec.with_input().start(folder.path());
        let file = File::open(process.log_file()).expect("the process has begun its log");
        let answers = Answers { file, read: 0, rest: Vec::new(), lines: BTreeMap::new(), other: String::new() };
        Sdk { process: Mutex::new(process), answers: Mutex::new(answers), next: AtomicU64::new(1) }
    }

    /// Makes one call.
    ///
    /// # Panics
    /// When the process does not answer.
    pub async fn ask(&self, ask: Ask) -> Told {
        read(self.order(Value::Object(ask.fields)).await)
    }

    /// Makes all these calls, so many at the same time; what they brought, in their order.
    ///
    /// # Panics
    /// When the process does not answer.
    pub async fn many(&self, asks: impl IntoIterator<Item = Ask>, concurrency: usize) -> Vec<Told> {
        let orders: Vec<Value> = asks.into_iter().map(|ask| Value::Object(ask.fields)).collect();
        read(self.order(json!({"do": "many", "orders": orders, "concurrency": concurrency})).await)
    }

    /// Versions: OpenAI's, Anthropic's.
    ///
    /// # Panics
    /// When the process does not answer.
    pub async fn versions(&self) -> (String, String) {
        let about = self.order(json!({"do": "about"})).await;
        (read(about["openai"].clone()), read(about["anthropic"].clone()))
    }

    async fn order(&self, mut order: Value) -> Value {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        order["number"] = json!(number);
        self.process.lock().expect("no test panics while it says something").say(&order.to_string());
        until("the SDKs answer", LIMIT, || async {
            let mut answers = self.answers.lock().expect("no test panics while it reads");
            answers.read();
            let answer = answers.lines.remove(&number);
            if answer.is_none() && self.process.lock().is_ok_and(|process| process.has_ended()) {
                panic!("the SDKs ended: {}", answers.other);
            }
            answer
        })
        .await
    }
}

impl Answers {
    /// Takes what was written since.
    fn read(&mut self) {
        let mut part = vec![0u8; 256 * 1024];
        while let Ok(length @ 1..) = self.file.read_at(&mut part, self.read) {
            self.read += length as u64;
            self.rest.extend_from_slice(&part[..length]);
        }
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            match serde_json::from_slice::<Line>(&line) {
                Ok(Line { number, answer }) => {
                    self.lines.insert(number, answer);
                }
                Err(_) => self.other.push_str(&String::from_utf8_lossy(&line)),
            }
        }
    }
}

fn read<T: serde::de::DeserializeOwned>(answer: Value) -> T {
    serde_json::from_value(answer.clone()).unwrap_or_else(|error| panic!("{error}: {answer}"))
}
