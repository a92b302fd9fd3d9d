//! The table of costs, for people.

use comfy_table::{CellAlignment, Table};

use super::{Cost, Costs};
use crate::table::STYLE;

/// The table, and below it what its numbers mean.
pub fn text(costs: &Costs) -> String {
    let mut table = Table::new();
    table.load_style(STYLE).set_header([
        "instructions",
        "Nuncio SVM",
        "Nuncio VT-x",
        "KVM SVM",
        "NOVA SVM",
        "NOVA VT-x",
    ]);
    table.add_rows(costs.costs.iter().map(row));
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let mut parts = vec![
        table.trim_fmt(),
        "Where Nuncio's go, and what is compared:".into(),
    ];
    parts.extend(costs.costs.iter().map(about));
    parts.push(
        "Nuncio's numbers are what the guest sees, its own call wrapper included. KVM's and NOVA's\n\
         were counted in the same emulators: kvm-amd of Linux 6.1 (mitigations off), NOVA 24.08."
            .into(),
    );
    parts.join("\n\n")
}

fn row(cost: &Cost) -> [String; 6] {
    let number = |number: Option<u64>| number.map_or("-".to_owned(), |number| number.to_string());
    let peer = |peer: Option<u32>| number(peer.map(u64::from));
    [
        cost.operation.to_owned(),
        number(cost.svm),
        number(cost.vmx),
        peer(cost.kvm_svm),
        peer(cost.nova_svm),
        peer(cost.nova_vmx),
    ]
}

fn about(cost: &Cost) -> String {
    let Cost {
        operation, parts, ..
    } = cost;
    match cost.note {
        "" => format!("{operation}: {parts}."),
        note => format!("{operation}: {parts}. {note}."),
    }
}
