/// Tensors come and go by the hundred in a step, and the system's allocator asks the kernel for each of the
/// larger ones.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    // SAFETY: no other thread runs yet.
    unsafe { foreseed::device::count_cores_once() };
    foreseed::cli::run(std::env::args_os())
}
