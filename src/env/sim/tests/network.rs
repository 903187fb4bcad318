use super::*;

#[test]
fn bytes_come_in_order_whatever_the_weather() {
    for seed in 0..10 {
        run(seed, async |world| {
            let (client, node) = (world.client_env(), world.node("n1"));
            world.set_loss(0.2);
            let (mut ours, mut theirs) = pair(&client, &node, "n1:").await;
            let sent: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
            let expected = sent.clone();
            spawn(&client, async move {
                for part in sent.chunks(7000) {
                    ours.write_all(part).await.expect("open");
                }
            });
            let mut heard = Vec::new();
            theirs.read_to_end(&mut heard).await.expect("closed in order");
            assert!(heard == expected);
        });
    }
}

#[test]
fn a_partition_stalls_and_heals() {
    run(3, async |world| {
        let (client, node) = (world.client_env(), world.node("n1"));
        let (mut ours, mut theirs) = pair(&client, &node, "n1:").await;
        world.partition("client", "n1");
        ours.write_all(b"before").await.expect("a write only queues");
        let mut heard = [0; 11];
        let early = tokio::time::timeout(SECOND * 5, theirs.read_exact(&mut heard)).await;
        assert!(early.is_err(), "nothing passes a cut link");
        ours.write_all(b"after").await.expect("still patient");
        let healed = world.elapsed();
        world.heal_between("n1", "client");
        theirs.read_exact(&mut heard[..]).await.expect("sent again");
        assert_eq!(&heard, b"beforeafter");
        assert!(world.elapsed() - healed < SECOND);
    });
}

#[test]
fn a_long_partition_breaks_the_sender_and_leaves_the_other_half_open() {
    run(3, async |world| {
        let (client, node) = (world.client_env(), world.node("n1"));
        let (mut ours, mut theirs) = pair(&client, &node, "n1:").await;
        world.isolate("n1");
        ours.write_all(b"lost").await.expect("a write only queues");
        let error = ours.read_u8().await.expect_err("nothing was acknowledged");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(ours.write_all(b"x").await.is_err());
        world.heal();
        assert!(tokio::time::timeout(SECOND * 60, theirs.read_u8()).await.is_err());
        theirs.write_all(b"are you there").await.expect("it cannot know");
        let error = theirs.read_u8().await.expect_err("the other side is gone");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_one_way_cut_lets_bytes_through_but_no_acknowledgement() {
    run(3, async |world| {
        let (client, node) = (world.client_env(), world.node("n1"));
        let (mut ours, mut theirs) = pair(&client, &node, "n1:").await;
        world.cut("n1", "client");
        ours.write_all(b"x").await.expect("open");
        assert_eq!(theirs.read_u8().await.expect("this way is open"), b'x');
        let error = ours.read_u8().await.expect_err("never acknowledged");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    });
}

#[test]
fn connecting_tells_nobody_listening_from_nobody_there() {
    run(5, async |world| {
        let (client, node) = (world.client_env(), world.node("n1"));
        let kind = async |address: &str| {
            client.net.connect(address).await.err().map(|error| error.kind()).expect("fails")
        };
        assert_eq!(kind("n1:9").await, ErrorKind::ConnectionRefused);
        assert_eq!(kind("nowhere:9").await, ErrorKind::TimedOut);
        assert_eq!(kind("nonsense").await, ErrorKind::InvalidInput);
        spawn(&node, echo(node.clone(), 9));
        client.clock.sleep(MS).await;
        world.partition("n1", "client");
        spawn(&client, {
            let (world, clock) = (world.clone(), client.clock.clone());
            async move {
                clock.sleep(SECOND * 4).await;
                world.heal();
            }
        });
        client.net.connect("n1:9").await.map(drop).expect("asks again until healed");
        world.crash("n1");
        assert_eq!(kind("n1:9").await, ErrorKind::TimedOut);
        drop(world.node("n1"));
        assert_eq!(kind("n1:9").await, ErrorKind::ConnectionRefused);
    });
}

#[test]
fn addresses_are_taken_and_given_back() {
    run(1, async |world| {
        let env = world.node("n1");
        let kind = async |address: &str| env.net.listen(address).await.err().map(|error| error.kind());
        let first = env.net.listen("n1:7001").await.expect("free");
        assert_eq!(first.local_address(), "n1:7001");
        assert_eq!(kind("127.0.0.1:7001").await, Some(ErrorKind::AddrInUse));
        assert_eq!(kind("n2:7001").await, Some(ErrorKind::AddrNotAvailable));
        drop(first);
        assert_eq!(kind("n1:7001").await, None);
    });
}

#[test]
fn closing_is_heard_after_the_last_byte_and_resets_what_was_not_read() {
    run(2, async |world| {
        let (client, node) = (world.client_env(), world.node("n1"));
        let (mut ours, mut theirs) = pair(&client, &node, "n1:").await;
        theirs.write_all(b"bye").await.expect("open");
        theirs.shutdown().await.expect("open");
        let mut heard = Vec::new();
        ours.read_to_end(&mut heard).await.expect("closed in order");
        assert_eq!(heard, b"bye");
        ours.write_all(b"unread").await.expect("the other way is open");
        client.clock.sleep(MS * 10).await;
        drop(theirs);
        client.clock.sleep(MS * 10).await;
        let error = ours.write_all(b"x").await.expect_err("reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_reader_that_does_not_read_stops_its_writer() {
    run(2, async |world| {
        let (client, node) = (world.client_env(), world.node("n1"));
        let (mut ours, mut theirs) = pair(&client, &node, "n1:").await;
        let taken = Arc::new(AtomicU64::new(0));
        spawn(&client, {
            let taken = taken.clone();
            async move {
                while let Ok(written) = ours.write(&[7; 1000]).await {
                    taken.fetch_add(written as u64, Ordering::Relaxed);
                }
            }
        });
        client.clock.sleep(SECOND).await;
        let full = taken.load(Ordering::Relaxed);
        assert!((1000..1_000_000).contains(&full), "{full}");
        theirs.read_exact(&mut [0; 50_000]).await.expect("they were sent");
        client.clock.sleep(SECOND).await;
        assert!(taken.load(Ordering::Relaxed) >= full + 49_000);
    });
}

#[test]
fn a_crash_resets_connections() {
    run(4, async |world| {
        let (client, node) = (world.client_env(), world.node("n1"));
        let (mut ours, theirs) = pair(&client, &node, "n1:").await;
        world.crash("n1");
        let error = ours.read_u8().await.expect_err("reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        drop(theirs);
    });
}

#[test]
fn a_slow_link_takes_its_time() {
    run(1, async |world| {
        let (client, node) = (world.client_env(), world.node("n1"));
        let (mut ours, mut theirs) = pair(&client, &node, "n1:").await;
        world.set_bandwidth("client", "n1", Some(10_000));
        let began = world.elapsed();
        ours.write_all(&[7; 20_000]).await.expect("it fits the window");
        theirs.read_exact(&mut [0; 20_000]).await.expect("it arrives");
        let took = world.elapsed() - began;
        assert!(took >= SECOND * 2 && took < SECOND * 3, "{took:?}");
    });
}
