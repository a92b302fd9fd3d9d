//! The functions of the C header: one for each verb, with its arguments by name.

use std::fmt::{self, Write as _};

use nuncio_abi::{Argument, Register, Signature, Verb};

const ENTER: &str = r#"
#if defined(__GNUC__) && defined(__x86_64__)

/* The values that a call returns, in their order. Not all calls return all. */
struct nuncio_values {
    uint64_t rdx, r10, r8, rdi, rsi;
};

/* Makes a call through the text page and gives RAX: 0, or an error. To be compiled with
 * -mno-red-zone, because the call writes below the stack pointer. `values` may be NULL. */
static inline uint64_t nuncio_enter(uint64_t text_page, uint64_t rax, uint64_t rdi, uint64_t rsi,
                                    uint64_t rdx, uint64_t r10, uint64_t r8,
                                    struct nuncio_values *values)
{
    register uint64_t fourth __asm__("r10") = r10;
    register uint64_t fifth __asm__("r8") = r8;

    __asm__ volatile("call *%[entry]"
                     : "+a"(rax), "+D"(rdi), "+S"(rsi), "+d"(rdx), "+r"(fourth), "+r"(fifth)
                     : [entry] "r"(text_page)
                     : "memory");
    if (values != NULL) {
        values->rdx = rdx;
        values->r10 = fourth;
        values->r8 = fifth;
        values->rdi = rdi;
        values->rsi = rsi;
    }
    return rax;
}

/* Nanoseconds since the hypervisor started, without a call: the second entry of the text page. Both
 * addresses are the caller's own. */
static inline uint64_t nuncio_clock(uint64_t text_page, uint64_t time_page)
{
    typedef __attribute__((sysv_abi)) uint64_t (*entry)(uint64_t);

    return ((entry)(uintptr_t)(text_page + NUNCIO_CLOCK_ENTRY))(time_page);
}
"#;

/// Writes the way into the hypervisor and a function for each verb.
pub fn write(text: &mut String) -> fmt::Result {
    text.push_str(ENTER);
    for verb in Verb::ALL {
        let signature = verb.signature();
        if signature.kinds.is_empty() {
            function(text, *verb, verb.name(), &[], signature)?;
        }
        for form in signature.kinds {
            let name = format!("{}_{}", verb.name(), form.kind.name());
            let kind = format!("NUNCIO_KIND_{}", form.kind.name().to_uppercase());
            function(text, *verb, &name, &[(&kind, form.arguments)], signature)?;
        }
    }
    writeln!(text, "\n#endif")
}

/// A function for a verb; if it makes an object of some kind, with the constant of the kind in
/// the place of the verb's own argument, and the arguments that go with it.
fn function(
    text: &mut String,
    verb: Verb,
    name: &str,
    kind: &[(&str, &'static [Argument])],
    signature: &Signature,
) -> fmt::Result {
    let own = if kind.is_empty() {
        signature.arguments
    } else {
        &[]
    };
    let further = kind.iter().flat_map(|(_, arguments)| *arguments);
    let arguments: Vec<_> = own.iter().chain(further).collect();
    let parameters: Vec<_> = arguments.iter().flat_map(|it| parameters(it)).collect();

    comment(text, verb, &arguments, signature)?;
    write!(
        text,
        "static inline uint64_t nuncio_{name}(uint64_t text_page"
    )?;
    for (_, parameter) in &parameters {
        write!(text, ", uint64_t {parameter}")?;
    }
    let values = if signature.values.is_empty() {
        "NULL"
    } else {
        text.push_str(", struct nuncio_values *values");
        "values"
    };
    let constant = verb.name().to_uppercase();
    write!(
        text,
        ")\n{{\n    return nuncio_enter(text_page, NUNCIO_VERB_{constant}"
    )?;
    for register in Register::ARGUMENTS {
        let mut parameters = parameters.iter();
        match (parameters.find(|(own, _)| *own == register), kind.first()) {
            (Some((_, parameter)), _) => write!(text, ", {parameter}")?,
            (None, Some((kind, _))) if register == Register::Rdi => write!(text, ", {kind}")?,
            (None, _) => write!(text, ", 0")?,
        }
    }
    writeln!(text, ", {values});\n}}")
}

/// The parameters of an argument: one for each register.
fn parameters(argument: &Argument) -> Vec<(Register, String)> {
    let name = identifier(argument);
    match argument.registers {
        [register] => vec![(*register, name)],
        registers => {
            let numbered = registers.iter().enumerate();
            numbered
                .map(|(index, register)| (*register, format!("{name}_{index}")))
                .collect()
        }
    }
}

/// The name of an argument as C writes it.
fn identifier(argument: &Argument) -> String {
    argument.name.replace('-', "_")
}

fn comment(
    text: &mut String,
    verb: Verb,
    arguments: &[&Argument],
    signature: &Signature,
) -> fmt::Result {
    writeln!(text, "\n/* {}", verb.text())?;
    for argument in arguments {
        let (name, meaning) = (identifier(argument), argument.meaning);
        writeln!(text, " *   {name}: {meaning}")?;
    }
    for value in signature.values {
        let registers: Vec<_> = value
            .registers
            .iter()
            .map(|register| register.name())
            .collect();
        writeln!(
            text,
            " * Returns {} in {}.",
            value.name,
            registers.join(", ")
        )?;
    }
    let errors: Vec<_> = verb
        .outcomes()
        .flatten()
        .map(|error| error.name())
        .collect();
    writeln!(text, " * Errors: {}. */", errors.join(", "))
}
