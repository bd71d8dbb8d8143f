//! Login: user and password for a token. The password is read from its file every time, so that a new one counts at the
//! next login, and stands nowhere else.

use std::{fmt, path::Path, sync::Arc, time::Duration};

use http::Method;
use serde::Deserialize;

use super::{
    Address, Cause, Login, Tls,
    http::{Answer, Ask, ask},
    lenient::{Text, Whole},
};

/// Paths of the login, newest first: Nacos 3, then Nacos 2.
const PATHS: &[&str] = &["/v3/auth/user/login", "/v1/auth/login"];
/// Longest file of a password, bytes.
const PASSWORD_MAX: usize = 4 << 10;
/// A token is renewed after this share of its life.
const RENEWED_AFTER: f64 = 0.8;
/// Bounds of the time after which a token is renewed, whatever the server says.
const LIFE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(24 * 3_600));

/// What a login gives.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Token {
    /// What is shown with every request.
    pub(super) value: Arc<str>,
    /// After which time it should be renewed.
    pub(super) renewed_after: Duration,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("renewed_after", &self.renewed_after).finish_non_exhaustive()
    }
}

/// Logs in.
pub(super) async fn login(address: &Address, tls: Option<&Tls>, login: &Login) -> Result<Token, Cause> {
    let password = password(&login.password_file).await?;
    let fields = [("username", login.user.as_str()), ("password", password.as_str())];
    let mut path = 0;
    let answer = loop {
        let request = Ask { method: Method::POST, path: PATHS[path], fields: &fields, token: None };
        let answer = ask(address, tls, &request).await?;
        path += 1;
        if !answer.is_no_such_path() || path == PATHS.len() {
            break answer;
        }
    };
    token(&answer, &login.user)
}

async fn password(file: &Path) -> Result<String, Cause> {
    let unreadable = |reason: String| Cause::Password { file: file.to_owned(), reason };
    let text = tokio::fs::read_to_string(file).await.map_err(|error| unreadable(error.to_string()))?;
    if text.len() > PASSWORD_MAX {
        return Err(unreadable(format!("{} bytes are too many for a password; at most {PASSWORD_MAX}", text.len())));
    }
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn token(answer: &Answer, user: &str) -> Result<Token, Cause> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct LoggedIn {
        access_token: Text,
        #[serde(default)]
        token_ttl: Whole,
    }
    if answer.status != 200 {
        return Err(Cause::Login { user: user.to_owned(), status: answer.status, said: answer.said() });
    }
    let LoggedIn { access_token, token_ttl } = answer.json().or_else(|_| answer.data())?;
    if access_token.0.is_empty() {
        return Err(Cause::Malformed("there is no token in it".to_owned()));
    }
    let life = Duration::from_secs(u64::try_from(token_ttl.0).unwrap_or_default());
    let renewed_after = life.min(LIFE.1).mul_f64(RENEWED_AFTER).max(LIFE.0);
    Ok(Token { value: access_token.0.into(), renewed_after })
}
