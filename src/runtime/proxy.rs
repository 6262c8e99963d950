//! Proxies: what the environment means is what it means for programs written in Go, kubectl among them.

use std::{env, net::IpAddr};

use http::Uri;

/// What the environment says about proxies.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `HTTPS_PROXY`, else `https_proxy`.
    pub https: String,
    /// `HTTP_PROXY`, else `http_proxy`.
    pub http: String,
    /// `NO_PROXY`, else `no_proxy`.
    pub exceptions: String,
}

impl Environment {
    /// This process's.
    #[must_use]
    pub fn read() -> Self {
        // They have no flags, as they are not ours alone.
        let first = |names: [&str; 2]| {
            // What is no text is told as no address of a proxy, not passed over.
            let values = names.into_iter().filter_map(env::var_os);
            values
                .map(|value| value.to_string_lossy().trim().to_owned())
                .find(|value| !value.is_empty())
                .unwrap_or_default()
        };
        Self {
            https: first(["HTTPS_PROXY", "https_proxy"]),
            http: first(["HTTP_PROXY", "http_proxy"]),
            exceptions: first(["NO_PROXY", "no_proxy"]),
        }
    }

    /// The proxy on the way to `server`; none when there is none, or `server` is an exception.
    ///
    /// # Errors
    /// When the variable is no address of a proxy, naming it.
    pub fn proxy_of(&self, server: &Uri) -> Result<Option<Uri>, String> {
        let (name, value) = match server.scheme_str() {
            Some("http") => ("HTTP_PROXY", &self.http),
            _ => ("HTTPS_PROXY", &self.https),
        };
        if value.is_empty() {
            return Ok(None);
        }
        let url = if value.contains("://") { value.clone() } else { format!("http://{value}") };
        let proxy = parse(&url).map_err(|what| format!("the variable `{name}` {what}"))?;
        Ok((!self.excepts(server)).then_some(proxy))
    }

    /// Whether `server` is reached directly: this machine always, others when `NO_PROXY` has them.
    fn excepts(&self, server: &Uri) -> bool {
        let host = server.host().unwrap_or_default().trim_matches(['[', ']']).to_ascii_lowercase();
        let port = server.port_u16().unwrap_or(if server.scheme_str() == Some("http") { 80 } else { 443 });
        let ip = host.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
        if host == "localhost" || ip.is_some_and(|ip| ip.is_loopback()) {
            return true;
        }
        self.exceptions.split(',').any(|entry| matches(&entry.trim().to_ascii_lowercase(), &host, ip, port))
    }
}

/// Whether an entry of `NO_PROXY` means this server: `*`, a network, an address or a domain, the last two with a port
/// if need be. A domain means what is below it too; `.domain` and `*.domain` mean only that.
fn matches(entry: &str, host: &str, ip: Option<IpAddr>, port: u16) -> bool {
    if entry == "*" {
        return true;
    }
    if let Some((network, bits)) = entry.split_once('/')
        && let (Ok(network), Ok(bits)) = (network.parse::<IpAddr>(), bits.parse::<u32>())
    {
        return ip.is_some_and(|ip| is_within(ip, network, bits));
    }
    let (name, wanted) = split_port(entry);
    if wanted.is_some_and(|wanted| wanted != port.to_string()) || name.is_empty() {
        return false;
    }
    if let Ok(address) = name.trim_matches(['[', ']']).parse::<IpAddr>() {
        return ip == Some(address.to_canonical());
    }
    let name = name.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(name);
    match name.strip_prefix('.') {
        Some(_) => host.ends_with(name),
        None => host == name || host.strip_suffix(name).is_some_and(|before| before.ends_with('.')),
    }
}

fn split_port(entry: &str) -> (&str, Option<&str>) {
    match entry.rsplit_once(':') {
        // More than one colon outside of brackets is an IPv6 address.
        Some((name, port)) if !name.contains(':') || name.ends_with(']') => (name, Some(port)),
        Some(_) | None => (entry, None),
    }
}

fn is_within(ip: IpAddr, network: IpAddr, bits: u32) -> bool {
    let same = |ip: u128, network: u128, width: u32| {
        bits <= width && (bits == 0 || (ip ^ network) >> (width - bits) == 0)
    };
    match (ip, network) {
        (IpAddr::V4(ip), IpAddr::V4(network)) => same(ip.to_bits().into(), network.to_bits().into(), 32),
        (IpAddr::V6(ip), IpAddr::V6(network)) => same(ip.to_bits(), network.to_bits(), 128),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

/// The proxy that `url` means.
///
/// # Errors
/// What is wrong with it; never the URL, which may hold a password.
pub fn parse(url: &str) -> Result<Uri, &'static str> {
    const SHAPE: &str =
        "is no address of a proxy; write it as http://host:port, https://host:port or socks5://host:port";
    let url = url.trim();
    // With and without `h`, names are resolved by the proxy.
    let url =
        url.strip_prefix("socks5h://").map_or_else(|| url.to_owned(), |rest| format!("socks5://{rest}"));
    let uri: Uri = url.parse().map_err(|_| SHAPE)?;
    let host = uri.host().filter(|host| !host.is_empty()).ok_or(SHAPE)?;
    let authority = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
    let rest = authority.rsplit('@').next().unwrap_or_default().strip_prefix(host).unwrap_or_default();
    let port = match rest.strip_prefix(':') {
        Some(port) if port.starts_with('+') => return Err(SHAPE),
        Some(port) => port.parse::<u16>().ok().filter(|port| *port > 0).ok_or(SHAPE)?,
        None => match uri.scheme_str() {
            Some("https") => 443,
            Some("socks5") => 1080,
            _ => 80,
        },
    };
    let scheme =
        uri.scheme_str().filter(|scheme| matches!(*scheme, "http" | "https" | "socks5")).ok_or(SHAPE)?;
    let user = authority.rsplit_once('@').map(|(user, _)| format!("{user}@")).unwrap_or_default();
    format!("{scheme}://{user}{host}:{port}").parse().map_err(|_| SHAPE)
}

/// A proxy as it may be shown: without its user and password.
#[must_use]
pub fn shown(proxy: &Uri) -> String {
    let port = proxy.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}", proxy.scheme_str().unwrap_or("http"), proxy.host().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn proxy(server: &str, exceptions: &str) -> Option<String> {
        let environment = Environment {
            https: "proxy.example.net:3128".to_owned(),
            http: "http://plain.example.net".to_owned(),
            exceptions: exceptions.to_owned(),
        };
        environment.proxy_of(&server.parse().unwrap()).unwrap().as_ref().map(shown)
    }

    #[rstest]
    #[case::nothing("https://edge.example.net:6443", "", true)]
    #[case::host("https://edge.example.net:6443", "a, edge.example.net", false)]
    #[case::case_does_not_matter("https://Edge.Example.net", "EDGE.example.NET", false)]
    #[case::domain_means_below("https://edge.example.net", "example.net", false)]
    #[case::not_an_ending("https://edge.notexample.net", "example.net", true)]
    #[case::below_only("https://edge.example.net", ".example.net", false)]
    #[case::not_itself("https://example.net", ".example.net", true)]
    #[case::star_domain("https://edge.example.net", "*.example.net", false)]
    #[case::star("https://edge.example.net", "x, *", false)]
    #[case::star_inside_is_no_pattern("https://edge.example.net", "edge.*", true)]
    #[case::port("https://edge.example.net:6443", "edge.example.net:6443", false)]
    #[case::other_port("https://edge.example.net:6443", "edge.example.net:443", true)]
    #[case::port_of_the_scheme("https://edge.example.net", "edge.example.net:443", false)]
    #[case::address("https://10.1.2.3:6443", "10.1.2.3", false)]
    #[case::address_with_port("https://10.1.2.3:6443", "10.1.2.3:443", true)]
    #[case::network("https://10.1.2.3:6443", ".svc,10.0.0.0/8", false)]
    #[case::other_network("https://11.1.2.3:6443", "10.0.0.0/8", true)]
    #[case::everything("https://11.1.2.3:6443", "0.0.0.0/0", false)]
    #[case::network_is_no_name("https://edge.example.net", "0.0.0.0/0", true)]
    #[case::bad_network("https://10.1.2.3:6443", "10.0.0.0/64", true)]
    #[case::address_six("https://[fd00::5]:6443", "fd00::5", false)]
    #[case::address_six_with_port("https://[fd00::5]:6443", "[fd00::5]:6443", false)]
    #[case::network_six("https://[fd00::5]:6443", "fd00::/16", false)]
    #[case::suffix_is_no_address("https://10.1.2.3", "2.3", false)]
    #[case::empty_entries("https://edge.example.net", ",, ,:443", true)]
    #[case::this_machine("https://127.0.0.1:6443", "", false)]
    #[case::this_machine_by_name("https://localhost:6443", "", false)]
    #[case::this_machine_six("https://[::1]:6443", "", false)]
    fn no_proxy_means_what_it_means_for_kubectl(
        #[case] server: &str,
        #[case] exceptions: &str,
        #[case] proxied: bool,
    ) {
        let expected = proxied.then(|| "http://proxy.example.net:3128".to_owned());
        assert_eq!(proxy(server, exceptions), expected);
    }

    #[test]
    fn each_scheme_has_its_own_variable() {
        assert_eq!(proxy("http://edge.example.net", "").as_deref(), Some("http://plain.example.net:80"));
        let nothing = Environment { http: "http://p".to_owned(), ..Environment::default() };
        assert_eq!(nothing.proxy_of(&"https://edge".parse().unwrap()), Ok(None));
    }

    #[rstest]
    #[case("http://me:hunter2@p:1", Some("http://p:1"))]
    #[case("socks5h://p", Some("socks5://p:1080"))]
    #[case("https://p", Some("https://p:443"))]
    #[case("ftp://p", None)]
    #[case("p:1", None)]
    #[case("http://p:99999", None)]
    #[case("http://p:hunter2", None)]
    #[case("http://", None)]
    #[case("http://[::1", None)]
    #[case("", None)]
    fn proxies_are_shown_without_their_password(#[case] url: &str, #[case] expected: Option<&str>) {
        assert_eq!(parse(url).ok().as_ref().map(shown).as_deref(), expected);
        let environment =
            Environment { https: "http://me:hunter2@p:no".to_owned(), ..Environment::default() };
        let error = environment.proxy_of(&"https://edge".parse().unwrap()).unwrap_err();
        assert!(error.contains("`HTTPS_PROXY`") && !error.contains("hunter2"), "{error}");
    }
}
