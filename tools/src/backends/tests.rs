use super::*;

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

#[test]
fn the_last_word_of_each_interface_counts() {
    let said = lines(
        "console: native:serial\n\
         clock-source: native:tsc, used 5 times\n\
         clock-source: kvm:kvmclock, used 9 times\n\
         \x20 native:tsc not used: there is a better one\n\
         irq-chip: native:local-apic, used 2 times\n\
         smp: nothing serves\n",
    );
    let server = |name: &str| Some(name.to_owned());
    assert_eq!(
        served(&said),
        [
            None,
            server("kvm:kvmclock"),
            server("native:local-apic"),
            None,
            None
        ]
    );
}

#[test]
fn the_table_is_markdown() {
    let row = Row {
        place: "here",
        served: vec![Some("a:b".to_owned()), None],
        obstacle: String::new(),
    };
    assert_eq!(show::line(&row), "| here | `a:b` | - | - | - | - |");
    let backends = Backends {
        schema: SCHEMA,
        interfaces: INTERFACES,
        rows: vec![row],
    };
    let text = text(&backends);
    let columns: Vec<_> = text.lines().map(|line| line.matches('|').count()).collect();
    assert_eq!(columns, [7, 7, 7]);
    assert_eq!(backends.verdict().text, "the kernel ran in 1 of 1 places");
}
