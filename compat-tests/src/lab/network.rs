//! Namespaces for nodes, on cables to one switch.
//!
//! The switch is a bridge, and this process sits at it too, so that clients reach every node whatever happens
//! between nodes. A cut is a wrong hardware address: what one node sends to the other is delivered to nobody, as
//! if the cable were gone, and neither end is told.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result};

use super::run;

/// A hardware address that nobody has.
const NOBODY: &str = "02:00:00:00:00:ff";
/// What all labs' names begin with.
const PREFIX: &str = "qr";
/// The nodes' end of their cables.
const CABLE: &str = "eth0";

/// Hosts on a switch. They are gone with this value.
pub struct Network {
    name: String,
    /// The third byte of all addresses.
    subnet: u8,
    hosts: usize,
}

impl Network {
    /// `hosts` of them, which reach each other and this process.
    pub fn create(hosts: usize) -> Result<Self> {
        let pid = std::process::id();
        let subnet = u8::try_from(pid % 251).context("less than 256")?;
        // Made before anything else, so that half of a network goes away too.
        let network = Self { name: format!("{PREFIX}{pid}"), subnet, hosts };
        let bridge = network.name.as_str();
        run("ip", &["link", "add", bridge, "type", "bridge"])?;
        run("ip", &["address", "add", &format!("10.213.{subnet}.254/24"), "dev", bridge])?;
        run("ip", &["link", "set", bridge, "up"])?;
        for host in 0..hosts {
            // One name for the namespace, and for the switch's end of the cable to it.
            let space = network.space(host);
            run("ip", &["netns", "add", &space])?;
            run("ip", &["link", "add", &space, "type", "veth", "peer", "name", CABLE, "netns", &space])?;
            run("ip", &["link", "set", &space, "master", bridge, "up"])?;
            let address = format!("{}/24", network.address(host));
            run("ip", &["-n", &space, "address", "add", &address, "dev", CABLE])?;
            run("ip", &["-n", &space, "link", "set", CABLE, "up"])?;
            run("ip", &["-n", &space, "link", "set", "lo", "up"])?;
        }
        Ok(network)
    }

    /// A host's address.
    #[must_use]
    pub fn address(&self, host: usize) -> IpAddr {
        let last = u8::try_from(host + 1).expect("a handful of hosts");
        Ipv4Addr::new(10, 213, self.subnet, last).into()
    }

    /// What a command line must begin with to run on a host.
    #[must_use]
    pub fn enter(&self, host: usize) -> Vec<String> {
        vec!["nsenter".to_owned(), format!("--net=/run/netns/{}", self.space(host))]
    }

    /// Loses all that one host sends to the other.
    pub fn cut(&self, from: usize, to: usize) -> Result<()> {
        let address = self.address(to).to_string();
        let wrong = ["neighbour", "replace", &address, "lladdr", NOBODY, "dev", CABLE, "nud", "permanent"];
        self.on(from, &wrong)
    }

    /// Cuts a host off from all others, in both directions.
    pub fn isolate(&self, host: usize) -> Result<()> {
        (0..self.hosts).filter(|&other| other != host).try_for_each(|other| {
            self.cut(host, other)?;
            self.cut(other, host)
        })
    }

    /// Lets no more than this through a host's cable, in each direction from it.
    pub fn slow(&self, host: usize, kilobits: u32) -> Result<()> {
        let (space, rate) = (self.space(host), format!("{kilobits}kbit"));
        let queue = ["tbf", "rate", &rate, "burst", "16kb", "latency", "300ms"];
        run("tc", &[&["-n", &space, "qdisc", "replace", "dev", CABLE, "root"][..], &queue].concat())?;
        Ok(())
    }

    /// Puts right all that was done.
    pub fn mend(&self) -> Result<()> {
        (0..self.hosts).try_for_each(|host| self.hasten(host))?;
        self.join()
    }

    /// Takes back all cuts.
    pub fn join(&self) -> Result<()> {
        for host in 0..self.hosts {
            for other in (0..self.hosts).filter(|&other| other != host) {
                // To be asked for again. There may be none.
                let _ =
                    self.on(host, &["neighbour", "delete", &self.address(other).to_string(), "dev", CABLE]);
            }
        }
        Ok(())
    }

    /// Lets a host's cable carry as much as ever.
    pub fn hasten(&self, host: usize) -> Result<()> {
        let space = self.space(host);
        // It may be as fast as ever.
        let _ = run("tc", &["-n", &space, "qdisc", "delete", "dev", CABLE, "root"]);
        Ok(())
    }

    fn on(&self, host: usize, arguments: &[&str]) -> Result<()> {
        run("ip", &[&["-n", &self.space(host)], arguments].concat()).map(drop)
    }

    fn space(&self, host: usize) -> String {
        format!("{}-{host}", self.name)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for host in 0..self.hosts {
            // A namespace ends when the kernel gets to it, and its cable would be in the next lab's way.
            let _ = run("ip", &["link", "delete", &self.space(host)]);
            let _ = run("ip", &["netns", "delete", &self.space(host)]);
        }
        let _ = run("ip", &["link", "delete", &self.name]);
    }
}

/// The process whose lab has something of this name.
pub fn owner(name: &str) -> Option<&str> {
    let pid = name.strip_prefix(PREFIX)?.split('-').next()?;
    pid.bytes().all(|byte| byte.is_ascii_digit()).then_some(pid)
}
