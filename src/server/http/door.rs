//! Who may knock: the names under which the server may be asked for, and the web pages that may ask.
//!
//! A page in a browser can send requests to this machine, also under a name that it makes point here
//! (DNS rebinding). The first is told by its `Origin`, the second by its `Host`.

use http::header::{HOST, ORIGIN};
use http::uri::{Authority, Scheme, Uri};
use http::{HeaderMap, HeaderValue};

use crate::{Error, Result};

const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// A name, and the port that it stands with, if that matters.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Name {
    host: String,
    port: Option<u16>,
}

impl Name {
    fn of(authority: &Authority) -> Self {
        Self {
            // A name that ends with a dot is the same name.
            host: authority.host().trim_end_matches('.').to_ascii_lowercase(),
            port: authority.port_u16(),
        }
    }

    fn allows(&self, other: &Self) -> bool {
        self.host == other.host && (self.port.is_none() || self.port == other.port)
    }
}

/// A web page's origin; without a port it stands for all of them.
#[derive(Clone, Debug)]
struct Page {
    scheme: Option<Scheme>,
    name: Name,
}

pub struct Door {
    names: Vec<Name>,
    pages: Vec<Page>,
}

impl Door {
    /// Loopback's names, and `hosts` (`example.com`, `example.com:8080`); pages of loopback, and
    /// `origins` (`https://example.com`).
    pub fn new(hosts: &[String], origins: &[String]) -> Result<Self> {
        let mut names = Vec::new();
        for host in LOOPBACK.into_iter().chain(hosts.iter().map(String::as_str)) {
            let authority: Authority = bracketed(host).parse().map_err(|_| {
                Error::invalid(
                    "--allow-host",
                    format!("{host:?} is no host"),
                    "Give a name or address as clients write it, as in example.com or 10.0.0.5:8080",
                )
            })?;
            names.push(Name::of(&authority));
        }
        let mut pages: Vec<Page> = Vec::new();
        for name in names.iter().take(LOOPBACK.len()) {
            pages.push(Page {
                scheme: None,
                name: name.clone(),
            });
        }
        for origin in origins {
            pages.push(page(origin).ok_or_else(|| {
                Error::invalid(
                    "--allow-origin",
                    format!("{origin:?} is no origin"),
                    "Give the scheme and host of the web page, as in https://example.com",
                )
            })?);
        }
        Ok(Self { names, pages })
    }

    /// Lets a request in or says why not. Gives the web page it comes from, if it comes from one.
    pub fn admit<'h>(
        &self,
        uri: &Uri,
        headers: &'h HeaderMap,
    ) -> Result<Option<&'h HeaderValue>, String> {
        let host = match (headers.get(HOST), uri.authority()) {
            (Some(host), _) => host.to_str().ok().and_then(|host| host.parse().ok()),
            (None, authority) => authority.cloned(),
        };
        let Some(host): Option<Authority> = host else {
            return Err("Forbidden: the request has no Host header that can be read".into());
        };
        let name = Name::of(&host);
        if !self.names.iter().any(|known| known.allows(&name)) {
            return Err(format!(
                "Forbidden: this server does not answer to the host {:?}; whoever runs it can let \
                 it with --allow-host {}",
                host.as_str(),
                name.host
            ));
        }
        let Some(origin) = headers.get(ORIGIN) else {
            return Ok(None);
        };
        let text = origin.to_str().unwrap_or_default();
        let known = page(text).is_some_and(|page| self.pages.iter().any(|p| allows(p, &page)));
        if !known {
            return Err(format!(
                "Forbidden: web pages of {text:?} may not use this server; whoever runs it can let \
                 them with --allow-origin"
            ));
        }
        Ok(Some(origin))
    }
}

fn allows(known: &Page, page: &Page) -> bool {
    let port = |page: &Page| {
        let default = match page.scheme.as_ref().map(Scheme::as_str) {
            Some("https") => 443,
            _ => 80,
        };
        page.name.port.unwrap_or(default)
    };
    known.name.host == page.name.host
        && match &known.scheme {
            None => true,
            Some(_) => known.scheme == page.scheme && port(known) == port(page),
        }
}

fn page(origin: &str) -> Option<Page> {
    let uri: Uri = origin.trim_end_matches('/').parse().ok()?;
    Some(Page {
        name: Name::of(uri.authority()?),
        scheme: Some(uri.scheme()?.clone()),
    })
}

/// A bare IPv6 address as it stands in a URL.
fn bracketed(host: &str) -> String {
    match host.parse::<std::net::Ipv6Addr>() {
        Ok(_) => format!("[{host}]"),
        Err(_) => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(door: &Door, host: &str, origin: Option<&str>) -> bool {
        let mut headers = HeaderMap::from_iter([(HOST, host.parse().unwrap())]);
        if let Some(origin) = origin {
            headers.insert(ORIGIN, origin.parse().unwrap());
        }
        door.admit(&Uri::from_static("/mcp"), &headers).is_ok()
    }

    #[test]
    fn loopback_is_let_in_under_its_names_and_nobody_else() {
        let door = Door::new(&[], &[]).unwrap();
        for host in ["localhost", "LOCALHOST.:80", "127.0.0.1:9", "[::1]:8080"] {
            assert!(admits(&door, host, None), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1",
        ] {
            assert!(!admits(&door, host, None), "{host}");
        }
        let nobody = HeaderMap::new();
        assert!(door.admit(&Uri::from_static("/mcp"), &nobody).is_err());
    }

    #[test]
    fn pages_of_others_are_sent_away() {
        let door = Door::new(&[], &["https://app.example".into()]).unwrap();
        for origin in [
            "http://localhost:6274",
            "http://127.0.0.1",
            "https://app.example",
            "https://app.example:443",
        ] {
            assert!(admits(&door, "localhost", Some(origin)), "{origin}");
        }
        for origin in [
            "http://evil.example",
            "null",
            "",
            "http://app.example",
            "https://app.example:8443",
            "https://app.example.evil",
        ] {
            assert!(!admits(&door, "localhost", Some(origin)), "{origin}");
        }
    }

    #[test]
    fn a_refusal_tells_the_operator_which_option_helps() {
        let door = Door::new(&["foreseed.example:8080".into(), "fd00::1".into()], &[]).unwrap();
        assert!(admits(&door, "foreseed.example:8080", None));
        assert!(admits(&door, "[fd00::1]:1", None));
        assert!(!admits(&door, "foreseed.example", None));
        let headers = HeaderMap::from_iter([(HOST, "box.example:1".parse().unwrap())]);
        let refusal = door.admit(&Uri::from_static("/"), &headers).unwrap_err();
        assert!(refusal.contains("--allow-host box.example"), "{refusal}");
        assert!(Door::new(&["a b".into()], &[]).is_err());
        assert!(Door::new(&[], &["app.example".into()]).is_err());
    }
}
