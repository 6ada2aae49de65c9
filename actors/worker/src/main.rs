//! A worker on its own, as the tests run it. The athena binary enters [`athena_worker::main`] the same way.

fn main() {
    athena_worker::main(std::env::args().skip(1))
}
