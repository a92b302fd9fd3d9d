use super::*;

fn costs(svm: Option<u64>, vmx: Option<u64>) -> Costs {
    let cost = Cost {
        name: "hello",
        operation: "call that does nothing",
        svm,
        vmx,
        kvm_svm: Some(1_245),
        nova_svm: Some(52),
        nova_vmx: None,
        note: "a note",
        parts: "some parts",
    };
    Costs {
        schema: SCHEMA,
        costs: vec![cost],
    }
}

#[test]
fn the_table_has_each_number_once() {
    let text = text(&costs(Some(129), Some(158)));
    let row = text.lines().find(|line| line.contains("nothing")).unwrap();
    let numbers: Vec<_> = row.split_whitespace().skip(4).collect();
    assert_eq!(numbers, ["129", "158", "1245", "52", "-"]);
    assert!(text.contains("call that does nothing: some parts. a note."));
}

#[test]
fn what_was_not_measured_is_no_success() {
    assert!(costs(Some(1), Some(1)).verdict().is_ok());
    assert!(!costs(None, Some(1)).verdict().is_ok());
    assert!(!costs(Some(1), None).verdict().is_ok());
}

#[test]
fn a_number_is_that_of_its_line() {
    let mut report = Report::new(["bench", "other"].into_iter(), None);
    report.domains[0].console.lines = ["bench hello 129", "bench hello-2 7", "hello 3"]
        .map(str::to_owned)
        .into();
    assert_eq!(cost(&report, "hello"), Some(129));
    assert_eq!(cost(&report, "hello-2"), Some(7));
    assert_eq!(cost(&report, "bench"), None);
}

#[test]
fn the_document_has_the_keys_that_are_listed() {
    let document: serde_json::Value = serde_json::from_str(&costs(Some(1), None).json()).unwrap();
    assert_eq!(document["schema"], 1);
    let cost = &document["costs"][0];
    assert_eq!(cost["svm"], 1);
    assert!(cost["vmx"].is_null());
    assert_eq!(cost["kvm_svm"], 1_245);
}
