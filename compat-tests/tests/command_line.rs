//! Options: from flags, variables and a file, and mistakes in them by name.

#![allow(clippy::print_stdout)]

use std::fs;

use anyhow::{Result, ensure};
use compat_tests::client::{ask, info};
use compat_tests::cluster::{Cluster, run};
use compat_tests::reply::Reply;

#[test]
fn mistakes_are_named() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("mistake.toml");
    fs::write(&path, "listen = \"127.0.0.1:1\"\nno-such-option = 1\n")?;
    let file = path.display().to_string();

    check(&["serve", "--no-such-option", "1"], &[], "--no-such-option")?;
    check(&["--no-such-option=1"], &[], "--no-such-option")?;
    check(&["serve", "--listen", "nonsense"], &[], "--listen")?;
    check(&["serve", "--listen"], &[], "--listen")?;
    check(&["serve", "--buffer-bytes", "many"], &[], "--buffer-bytes")?;
    check(&["serve", "stray"], &[], "stray")?;
    check(&["no-such-verb"], &[], "no-such-verb")?;
    check(&["serve", "--peers", "127.0.0.1:1,127.0.0.1:2"], &[], "peers")?;
    check(&["serve", "--config", "/nonexistent/quorate.toml"], &[], "/nonexistent/quorate.toml")?;
    check(&["serve", "--config", &file], &[], "no-such-option")?;
    check(&["serve"], &[("QUORATE_NO_SUCH_OPTION", "1")], "QUORATE_NO_SUCH_OPTION")?;
    check(&["serve"], &[("QUORATE_LISTEN", "nonsense")], "QUORATE_LISTEN")?;
    check(&["dev", "--nodes", "none"], &[], "--nodes")
}

fn check(arguments: &[&str], variables: &[(&str, &str)], named: &str) -> Result<()> {
    let arguments: Vec<String> = arguments.iter().map(|&word| word.to_owned()).collect();
    let (status, said) = run(&arguments, variables)?;
    ensure!(status.code() == Some(2), "{arguments:?} {variables:?}: {status}:\n{said}");
    ensure!(said.contains(named), "{arguments:?} {variables:?} does not name {named}:\n{said}");
    Ok(())
}

#[test]
fn help_and_version() -> Result<()> {
    let (status, said) = run(&["--help".to_owned()], &[])?;
    ensure!(status.success() && said.contains("--data") && said.contains("QUORATE_"), "{status}: {said}");
    let (status, said) = run(&["--version".to_owned()], &[])?;
    ensure!(status.success() && said.starts_with("quorate "), "{status}: {said}");
    Ok(())
}

/// A flag counts more than a variable, a variable more than the file.
#[test]
fn file_and_variables_say_the_same_as_flags() -> Result<()> {
    let mut cluster = Cluster::prepare(1)?;
    let node = &mut cluster.nodes[0];
    let path = node.data.with_extension("toml");
    let text = format!(
        "data = {:?}\nhttp-listen = \"{}\"\nlisten = \"127.0.0.1:1\"\nlog-format = \"text\"\nmaxclients = 77\n",
        node.data, node.http
    );
    fs::write(&path, text)?;
    let arguments =
        ["--config".to_owned(), path.display().to_string(), "--log-format".to_owned(), "json".to_owned()];
    node.start_with(
        &arguments,
        &[("QUORATE_LISTEN", &node.listen.to_string()), ("QUORATE_LOG_FORMAT", "text")],
    )?;
    node.wait_ready()?;
    let reply = ask(node.listen, &["CONFIG", "GET", "maxclients"])?;
    ensure!(reply.render() == ["1) \"maxclients\"", "2) \"77\""], "{reply:?}");
    let log = node.log_text()?;
    let first = log.lines().next().unwrap_or_default();
    println!("the log begins: {first}");
    ensure!(first.starts_with('{') && first.ends_with('}'), "not JSON: {first}");
    ensure!(node.data.is_dir(), "no {}", node.data.display());
    Ok(())
}

#[test]
fn config_rewrite_changes_the_file() -> Result<()> {
    let mut cluster = Cluster::prepare(1)?;
    let node = &mut cluster.nodes[0];
    let path = node.data.with_extension("toml");
    fs::write(&path, "# few\nmaxclients = 77\n")?;
    node.options = vec!["--config".to_owned(), path.display().to_string()];
    node.restart()?;
    ask(node.listen, &["CONFIG", "SET", "maxclients", "78", "timeout", "600"])?;
    let reply = ask(node.listen, &["CONFIG", "REWRITE"])?;
    ensure!(reply == Reply::Status(b"OK".to_vec()), "{reply:?}");
    let rewritten = fs::read_to_string(&path)?;
    ensure!(rewritten == "# few\nmaxclients = \"78\"\ntimeout = \"600\"\n", "{rewritten}");
    let shown = info(node.listen, "server", "config_file")?;
    ensure!(shown == Some(path.display().to_string()), "{shown:?}");

    let status = node.terminate()?;
    ensure!(status.success(), "SIGTERM: {status}");
    node.restart()?;
    let reply = ask(node.listen, &["CONFIG", "GET", "timeout"])?;
    ensure!(reply.render() == ["1) \"timeout\"", "2) \"600\""], "{reply:?}");
    Ok(())
}
