//! Registries behind a SOCKS proxy.

#[allow(dead_code, reason = "every test binary uses a part")]
mod fault_registry;

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};

use fault_registry::*;
use udocker_core::reference::RegistryHost;
use udocker_core::settings::RegistrySettings;

const BLOB: &[u8] = b"a blob";

/// A SOCKS server of versions 4a and 5 (RFC 1928, 1929) that leads everywhere to `to`; tells user and
/// target of each connection.
fn socks(to: SocketAddr) -> (SocketAddr, std::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, sender) = (stream.unwrap(), sender.clone());
            // A client that goes away has seen enough.
            std::thread::spawn(move || {
                greet(&stream).and_then(|told| {
                    drop(sender.send(told));
                    tunnel(&stream, to)
                })
            });
        }
    });
    (address, receiver)
}

/// The server's part of a SOCKS handshake.
fn greet(mut stream: &TcpStream) -> std::io::Result<String> {
    let take = |count: usize| {
        let mut bytes = vec![0; count];
        std::io::Read::read_exact(&mut &*stream, &mut bytes).map(|()| bytes)
    };
    let word = || take(1).and_then(|length| take(length[0].into())).map(|bytes| String::from_utf8(bytes).unwrap());
    let line = || {
        let mut text = String::new();
        loop {
            match take(1)?[0] {
                0 => return Ok::<_, std::io::Error>(text),
                byte => text.push(byte.into()),
            }
        }
    };
    let place = |bytes: &[u8]| format!("{}.{}.{}.{}", bytes[0], bytes[1], bytes[2], bytes[3]);
    if take(1)?[0] == 4 {
        let head = take(7)?;
        let user = line()?;
        let host = if head[3..6] == [0; 3] { line()? } else { place(&head[3..]) };
        stream.write_all(&[0, 0x5a, 0, 0, 0, 0, 0, 0])?;
        return Ok(format!("4 {user} {host}"));
    }
    let methods = take(1).and_then(|count| take(count[0].into()))?;
    let mut user = String::new();
    if methods.contains(&2) {
        stream.write_all(&[5, 2])?;
        take(1)?;
        user = format!("{}:{}", word()?, word()?);
        stream.write_all(&[1, 0])?;
    } else {
        stream.write_all(&[5, 0])?;
    }
    let host = if take(4)?[3] == 3 { word()? } else { place(&take(4)?) };
    take(2)?;
    stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
    Ok(format!("5 {user} {host}"))
}

#[test]
fn socks_proxies_are_spoken_to() {
    let registry = FaultRegistry::start(|_, _| Reply::ok(BLOB));
    for (scheme, user, host, expected) in [
        ("socks5h", "me:pw@", "registry.test:5000", "5 me:pw registry.test"),
        ("socks5", "", "192.0.2.1:5000", "5  192.0.2.1"),
        ("socks4a", "", "registry.test:5000", "4  registry.test"),
        ("socks4", "", "192.0.2.1:5000", "4  192.0.2.1"),
    ] {
        let (proxy, told) = socks(registry.address());
        let host: RegistryHost = host.parse().unwrap();
        let url = Some(format!("{scheme}://{user}{proxy}"));
        let settings = RegistrySettings { insecure: vec![host.clone()], proxy: url, retries: 0, ..settings() };
        assert_eq!(read_blob(&client(&settings, &host), &descriptor(BLOB)).unwrap(), BLOB, "{scheme}");
        // One connection by https, which finds no TLS there, and one without.
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [expected, expected], "{scheme}");
    }
    assert_eq!(registry.headers("host").into_iter().flatten().next().as_deref(), Some("registry.test:5000"));
}
