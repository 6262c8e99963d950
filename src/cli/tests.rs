//! What the words on the command line mean.

use std::{path::PathBuf, time::Duration};

use clap::Parser as _;
use rstest::rstest;

use super::{args::Planned, *};

fn parse(words: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("medusa-fleet").chain(words.split_whitespace()))
}

fn verb(words: &str) -> Verb {
    parse(words).unwrap().verb
}

#[test]
fn the_definition_of_the_command_line_holds_together() {
    Cli::command().debug_assert();
}

#[rstest]
#[case("/usr/local/bin/kubectl-medusa", "kubectl medusa")]
#[case("kubectl-fleet", "kubectl medusa")]
#[case("./medusa-fleet", "medusa-fleet")]
#[case("renamed", "medusa-fleet")]
fn it_shows_itself_under_the_name_it_was_called_by(#[case] argv0: &str, #[case] shown: &str) {
    let mut command = command(Some(&OsString::from(argv0)));
    let help = command.try_get_matches_from_mut([argv0, "--help"]).unwrap_err().to_string();
    assert!(help.contains(&format!("Usage: {shown} [OPTIONS] <COMMAND>")), "{help}");
}

#[test]
fn the_context_of_register_is_about_the_file() {
    let both =
        parse("register eu --from-kubeconfig f --context admin@eu --control-plane-context home").unwrap();
    let Verb::Fleet(FleetVerb::Register(args)) = both.verb else { panic!() };
    assert_eq!(args.context.as_deref(), Some("admin@eu"));
    assert_eq!(args.control_plane_context.as_deref(), Some("home"));
    assert_eq!((args.token_duration, args.timeout), (None, Duration::from_secs(30)));
    // Wherever it stands, as docs/README.md writes it.
    let Verb::Fleet(FleetVerb::Register(args)) = verb("--context admin@eu register eu --from-kubeconfig f")
    else {
        panic!()
    };
    assert_eq!(args.context.as_deref(), Some("admin@eu"));
    assert_eq!(args.control_plane_context, None);
}

#[test]
fn a_token_is_rotated_with_or_without_a_kubeconfig_of_its_cluster() {
    for words in ["register eu --rotate", "register eu --rotate --from-kubeconfig f"] {
        let Verb::Fleet(FleetVerb::Register(args)) = verb(words) else { panic!() };
        assert!(args.rotate);
    }
}

#[test]
fn global_options_stand_before_or_after_the_verb() {
    for words in ["-o json -n fleet --context home dataplanes", "dataplanes -o json -n fleet --context home"]
    {
        let global = parse(words).unwrap().global;
        assert_eq!(global.output, Format::Json);
        assert_eq!((global.namespace.as_str(), global.context.as_deref()), ("fleet", Some("home")));
    }
}

#[test]
fn controllers_take_what_the_contract_names() {
    let cli = parse(
        "control-plane --namespace fleet --kubeconfig k --metrics-addr 127.0.0.1:9 --log-format json --leader-elect \
         --allow-unsafe-kubeconfig exec --allow-unsafe-kubeconfig proxy-url --recovery-point-objective 49h \
         --medusa-image mirror:5000/medusa:0.30.0",
    )
    .unwrap();
    assert_eq!((cli.global.namespace.as_str(), cli.global.kubeconfig), ("fleet", Some(PathBuf::from("k"))));
    let Verb::ControlPlane(args) = cli.verb else { panic!() };
    assert_eq!(args.controller.metrics_addr.0, "127.0.0.1:9".parse().ok());
    assert_eq!(args.allow_unsafe_kubeconfig, ["exec", "proxy-url"]);
    assert_eq!(args.recovery_point_objective, Duration::from_hours(49));
    assert_eq!(args.medusa_image.to_string(), "mirror:5000/medusa:0.30.0");
    assert!(args.controller.leader_elect);
    let Verb::DataPlane(args) = verb("data-plane --metrics-addr= --watch-namespace a,b --take-over") else {
        panic!()
    };
    assert_eq!(args.controller.metrics_addr.0, None);
    assert_eq!(args.watch_namespace, ["a", "b"]);
    assert!(args.take_over);
}

#[test]
fn a_plan_is_of_one_verb() {
    let Verb::Fleet(FleetVerb::Plan { verb: Planned::Deploy { cluster } }) = verb("plan deploy shop") else {
        panic!()
    };
    assert_eq!(cluster.as_deref(), Some("shop"));
    let Verb::Fleet(FleetVerb::Plan { verb: Planned::Deploy { cluster } }) = verb("plan deploy -o wide")
    else {
        panic!()
    };
    assert_eq!(cluster, None);
}

#[rstest]
#[case("")]
#[case("dataplanes -o xml")]
#[case("register eu")]
#[case("register eu --from-kubeconfig f --token-duration 1y")]
#[case("backup --type incremental")]
#[case("backup --dry-run --wait")]
#[case("plan")]
#[case("plan describe")]
#[case("backup -l a=b=c")]
#[case("control-plane --metrics-addr 8080")]
#[case("control-plane --recovery-point-objective 25")]
#[case("control-plane --medusa-image medusa:")]
fn what_cannot_be_meant_is_a_usage_error(#[case] words: &str) {
    assert_eq!(parse(words).unwrap_err().exit_code(), 2);
}
