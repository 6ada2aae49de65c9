//! Which addresses an upstream server may have. A person configures it, so this machine and the local network are in order; what
//! is never an MCP server is the link itself: addresses by which a cloud hands its machines credentials, the unspecified address,
//! multicast and broadcast. However such an address is written, and whatever name leads to it.
//!
//! A name is looked up once more when the connection is made; who controls its zone can answer differently then. Redirects are
//! followed within the same origin only.

use reqwest::redirect::Policy;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;
use url::{Host, Url};

/// Names by which clouds serve credentials to their machines.
const METADATA: &[&str] = &["metadata", "metadata.google.internal", "metadata.goog", "instance-data"];

/// Whether an address may be reached.
///
/// # Errors
/// Why not.
pub async fn check(address: &str) -> Result<(), String> {
    let (host, port) = match parse(address)? {
        (Host::Ipv4(ip), _) => return judge(ip.into()),
        (Host::Ipv6(ip), _) => return judge(ip.into()),
        (Host::Domain(name), port) => (name, port),
    };
    // A name that is not known is the connection's to report.
    let found = tokio::net::lookup_host((host.as_str(), port)).await.into_iter().flatten();
    found.map(|address| address.ip()).try_for_each(judge)
}

/// Redirects of one request that are followed.
const REDIRECTS_MAX: usize = 10;
/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(20);

/// The HTTP client of every upstream. A redirect is followed where it keeps the request as it is (307, 308) and stays at the same
/// origin: to anywhere else it would carry the request, and what it authorizes, to somebody who was not configured. No connection
/// is kept for later, because a body that was not read to its end would hold up the next request.
///
/// # Errors
/// When the system has no TLS to offer.
pub fn client() -> Result<reqwest::Client, String> {
    let policy = Policy::custom(|attempt| {
        let same = attempt.previous().first().is_some_and(|first| first.origin() == attempt.url().origin());
        let kept = matches!(attempt.status().as_u16(), 307 | 308);
        if same && kept && attempt.previous().len() <= REDIRECTS_MAX {
            return attempt.follow();
        }
        let to = attempt.url().origin().ascii_serialization();
        attempt.error(format!("it redirects to {to}, which is not followed"))
    });
    let builder =
        reqwest::Client::builder().redirect(policy).connect_timeout(CONNECT).pool_max_idle_per_host(0);
    builder.build().map_err(|error| error.to_string())
}

/// Host and port. The URL standard's parser knows every way to write an IPv4 address: decimal, octal, hexadecimal, short.
fn parse(address: &str) -> Result<(Host<String>, u16), String> {
    let url = Url::parse(address).map_err(|error| format!("{error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("{}: only http and https are spoken", url.scheme()));
    }
    let host = url.host().ok_or("it names no host")?.to_owned();
    if let Host::Domain(name) = &host
        && METADATA.contains(&name.trim_end_matches('.'))
    {
        return Err(format!("{name} serves a machine's credentials and is no MCP server"));
    }
    Ok((host, url.port_or_known_default().unwrap_or(443)))
}

fn judge(ip: IpAddr) -> Result<(), String> {
    let bad = match ip {
        IpAddr::V4(ip) => never(ip),
        IpAddr::V6(ip) => {
            let link = ip.is_unicast_link_local() || ip.is_multicast() || ip.is_unspecified();
            // Amazon's metadata, and every form that carries an IPv4 address within.
            link || ip == Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254) || carried(ip).is_some_and(never)
        }
    };
    if bad { Err(format!("{ip} is an address of the link itself and no MCP server's")) } else { Ok(()) }
}

fn never(ip: Ipv4Addr) -> bool {
    ip.is_link_local()
        || ip.is_multicast()
        || ip.is_broadcast()
        || ip.octets().first() == Some(&0)
        || [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192)].contains(&ip)
}

/// The IPv4 address that an IPv6 one stands for: mapped, compatible, translated (RFC 6052) or 6to4.
fn carried(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let pair = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match ip.segments() {
        // `::1` is this machine.
        [0, 0, 0, 0, 0, 0, 0, 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            Some(pair(high, low))
        }
        [0x2002, high, low, ..] => Some(pair(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server's address leads to where a cloud keeps this machine's credentials, in thirty spellings and more.
    #[tokio::test]
    async fn stride_i20() {
        let forms = [
            "http://169.254.169.254/latest/meta-data/",
            "https://169.254.169.254/",
            "http://169.254.169.254:80/",
            "http://user:password@169.254.169.254/",
            "http://169.254.169.254./",
            "http://169.254.0.1/",
            "http://169.254.255.255/",
            "http://2852039166/",
            "http://0xa9fea9fe/",
            "http://0xA9.0xFE.0xA9.0xFE/",
            "http://0251.0376.0251.0376/",
            "http://025177524776/",
            "http://169.254.43518/",
            "http://169.16689662/",
            "http://169。254。169。254/",
            "http://１６９.２５４.１６９.２５４/",
            "http://%31%36%39.254.169.254/",
            "http://[::ffff:169.254.169.254]/",
            "http://[::ffff:a9fe:a9fe]/",
            "http://[0:0:0:0:0:ffff:a9fe:a9fe]/",
            "http://[::a9fe:a9fe]/",
            "http://[64:ff9b::a9fe:a9fe]/",
            "http://[2002:a9fe:a9fe::1]/",
            "http://[fe80::1]/",
            "http://[febf::1]/",
            "http://[fd00:ec2::254]/",
            "http://[ff02::1]/",
            "http://[::]/",
            "http://0.0.0.0/",
            "http://0/",
            "http://224.0.0.1/",
            "http://255.255.255.255/",
            "http://100.100.100.200/",
            "http://metadata.google.internal/computeMetadata/v1/",
            "http://METADATA.google.internal./",
            "file:///etc/passwd",
            "ftp://127.0.0.1/",
            "gopher://127.0.0.1:6379/_x",
            "http://",
            "169.254.169.254",
        ];
        assert!(forms.len() >= 30);
        for form in forms {
            assert!(check(form).await.is_err(), "{form}");
        }
        for form in [
            "http://127.0.0.1:3000/mcp",
            "http://localhost:3000/mcp",
            "http://[::1]:3000/mcp",
            "http://192.168.1.7:8080/mcp",
            "https://93.184.216.34/mcp",
        ] {
            assert_eq!(check(form).await, Ok(()), "{form}");
        }
    }
}
