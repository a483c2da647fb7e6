fn main() -> std::process::ExitCode {
    foreseed::cli::run(std::env::args_os())
}
