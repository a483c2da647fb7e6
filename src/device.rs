//! Which device computes, in what precision, and how much memory it has.

use std::fmt;
use std::fs;
use std::path::Path;
use std::str::FromStr;

use candle_core::{DType, Device};

use crate::{Error, Result};

/// Where models are to be run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// A GPU that this binary was built for and that is there, else the CPU.
    #[default]
    Auto,
    Cpu,
    /// NVIDIA's GPU with this number.
    Cuda(usize),
    Metal,
}

/// Says how many cores compute in RAYON_NUM_THREADS, unless somebody else did: where it is not said, candle
/// reads /proc/cpuinfo before every product of matrices, which takes longer than a small product.
///
/// # Safety
/// No other thread may run: one that reads the environment meanwhile reads what is being changed.
pub unsafe fn count_cores_once() {
    const NAME: &str = "RAYON_NUM_THREADS";
    if std::env::var_os(NAME).is_none() {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        // SAFETY: as for this function.
        unsafe { std::env::set_var(NAME, cores.to_string()) };
    }
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || format!("{text:?} is none of auto, cpu, cuda, cuda:1 and metal");
        match text.to_ascii_lowercase().as_str() {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            "metal" => Ok(Self::Metal),
            other => other
                .strip_prefix("cuda:")
                .and_then(|number| number.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(unknown),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
            Self::Metal => f.write_str("metal"),
        }
    }
}

impl DeviceChoice {
    /// Opens the device.
    ///
    /// # Errors
    /// A GPU was named that this binary was not built for, or that is not there.
    pub fn open(self) -> Result<Device> {
        match self {
            Self::Auto => Ok(found()),
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(_) if !cfg!(feature = "cuda") => Err(missing(
                self,
                "this binary was built without CUDA",
                "Build it with scripts/build-cuda.sh (cargo's feature `cuda`), or use --device cpu",
            )),
            Self::Metal if !cfg!(feature = "metal") => Err(missing(
                self,
                "this binary was built without Metal",
                "Build it on a Mac with `cargo build --release --features metal`, or use --device cpu",
            )),
            Self::Cuda(number) => Device::new_cuda(number).map_err(|error| {
                let problem = format!("it cannot be opened: {}", first_line(&error));
                let help = "nvidia-smi lists the GPUs and the driver, which has to be of CUDA 13 or \
                            newer; --device cpu does without";
                missing(self, problem, help)
            }),
            Self::Metal => Device::new_metal(0).map_err(|error| {
                let problem = format!("it cannot be opened: {}", first_line(&error));
                missing(self, problem, "Use --device cpu")
            }),
        }
    }
}

/// What the tensor library says, without the way that it took through it.
fn first_line(error: &candle_core::Error) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().to_owned()
}

fn missing(choice: DeviceChoice, problem: impl Into<String>, help: &str) -> Error {
    Error::invalid("device", format!("{choice}: {}", problem.into()), help)
}

/// The best device there is.
fn found() -> Device {
    let gpu = if cfg!(feature = "cuda") {
        Device::new_cuda(0)
    } else if cfg!(feature = "metal") {
        Device::new_metal(0)
    } else {
        Ok(Device::Cpu)
    };
    gpu.unwrap_or_else(|error| {
        let why = first_line(&error);
        tracing::warn!("no GPU can be opened, so the CPU computes: {why}");
        Device::Cpu
    })
}

/// What a person calls the device.
pub fn name_of(device: &Device) -> String {
    match device.location() {
        candle_core::DeviceLocation::Cpu => "cpu".into(),
        candle_core::DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        candle_core::DeviceLocation::Metal { .. } => "metal".into(),
    }
}

/// What a large model's weights are computed in where nobody says: on a GPU in the precision that
/// the published files have, on the CPU, whose kernels here are written for it, in f32.
pub fn default_precision(device: &Device) -> DType {
    match device {
        Device::Cpu => DType::F32,
        _ => DType::BF16,
    }
}

/// What a device has of memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    pub total: u64,
    /// What a process can still take.
    pub free: u64,
}

/// The device's memory, or `None` where this platform does not say.
pub fn memory(device: &Device) -> Option<Memory> {
    match device {
        Device::Cpu => system_memory(),
        Device::Cuda(gpu) => cuda_memory(gpu),
        Device::Metal(gpu) => metal_memory(gpu),
    }
}

/// What needs less than this is not worth a look at how much memory is free.
pub const LITTLE: u64 = 64 << 20;

/// Refuses work that the device's free memory does not hold; where the platform does not say how much
/// that is, all is allowed.
pub fn check_room(device: &Device, doing: &str, needs: u64) -> Result<()> {
    match memory(device) {
        Some(memory) if needs > memory.free => Err(short_of(device, doing, needs, memory.free)),
        _ => Ok(()),
    }
}

/// The error of work that memory does not hold.
pub fn short_of(device: &Device, doing: &str, needs: u64, free: u64) -> Error {
    let gb = |bytes: u64| bytes as f64 / 1e9;
    Error::OutOfMemory(format!(
        "{doing} takes about {:.1} GB, and {} has {:.1} GB free; {WAYS_OUT}",
        gb(needs),
        name_of(device),
        gb(free)
    ))
}

/// What a person can do where memory is short.
pub const WAYS_OUT: &str = "close something, ask for a smaller width and height, or load less: a GGUF \
    file of the denoiser (--denoiser FILE.gguf), --dtype bf16, a smaller model";

#[cfg(feature = "cuda")]
fn cuda_memory(gpu: &candle_core::CudaDevice) -> Option<Memory> {
    let (free, total) = gpu.cuda_stream().context().mem_get_info().ok()?;
    Some(Memory {
        total: total as u64,
        free: free as u64,
    })
}

#[cfg(not(feature = "cuda"))]
fn cuda_memory(_: &candle_core::CudaDevice) -> Option<Memory> {
    None
}

#[cfg(feature = "metal")]
fn metal_memory(gpu: &candle_core::MetalDevice) -> Option<Memory> {
    let device = gpu.metal_device();
    let total = device.recommended_max_working_set_size() as u64;
    let used = device.current_allocated_size() as u64;
    Some(Memory {
        total,
        free: total.saturating_sub(used),
    })
}

#[cfg(not(feature = "metal"))]
fn metal_memory(_: &candle_core::MetalDevice) -> Option<Memory> {
    None
}

fn system_memory() -> Option<Memory> {
    let machine = meminfo(&fs::read_to_string("/proc/meminfo").ok()?)?;
    let group = ["/sys/fs/cgroup", "/sys/fs/cgroup/memory"]
        .iter()
        .filter_map(|folder| group_available(Path::new(folder)))
        .min();
    Some(Memory {
        free: group.map_or(machine.free, |group| machine.free.min(group)),
        ..machine
    })
}

/// Linux's own figures.
fn meminfo(text: &str) -> Option<Memory> {
    let field = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|l| l.strip_prefix(name))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib * 1024)
    };
    Some(Memory {
        total: field("MemTotal:")?,
        free: field("MemAvailable:")?,
    })
}

/// What a container's limit leaves: cgroup v2's files or v1's.
fn group_available(folder: &Path) -> Option<u64> {
    let number = |name: &str| -> Option<u64> {
        fs::read_to_string(folder.join(name))
            .ok()?
            .trim()
            .parse()
            .ok()
    };
    let limit = number("memory.max").or_else(|| number("memory.limit_in_bytes"))?;
    let used = number("memory.current").or_else(|| number("memory.usage_in_bytes"))?;
    Some(limit.saturating_sub(used))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_chosen_by_the_name_that_it_prints() {
        let choices = ["auto", "cpu", "cuda:0", "cuda:3", "metal"];
        for name in choices {
            assert_eq!(name.parse::<DeviceChoice>().unwrap().to_string(), name);
        }
        assert_eq!("CUDA".parse(), Ok(DeviceChoice::Cuda(0)));
        for wrong in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "metal:0"] {
            let problem = wrong.parse::<DeviceChoice>().unwrap_err();
            assert!(problem.contains("auto, cpu, cuda"), "{problem}");
        }
    }

    #[test]
    fn a_gpu_that_the_binary_was_not_built_for_is_refused_with_how_to_build_it() {
        for (choice, built) in [
            (DeviceChoice::Cuda(0), cfg!(feature = "cuda")),
            (DeviceChoice::Metal, cfg!(feature = "metal")),
        ] {
            if !built {
                let error = choice.open().unwrap_err().to_string();
                assert!(error.contains("built without"), "{error}");
                assert!(error.contains("--device cpu"), "{error}");
            }
        }
        assert!(DeviceChoice::Cpu.open().unwrap().is_cpu());
        if !cfg!(any(feature = "cuda", feature = "metal")) {
            assert!(DeviceChoice::Auto.open().unwrap().is_cpu());
        }
    }

    #[test]
    fn the_systems_memory_is_read_in_bytes() {
        let text = "MemTotal:  10000 kB\nMemAvailable:   2048 kB\nBuffers: 3 kB\n";
        let expected = Memory {
            total: 10_000 * 1024,
            free: 2048 * 1024,
        };
        assert_eq!(meminfo(text), Some(expected));
        assert_eq!(meminfo("MemTotal: 1 kB"), None);
    }

    #[test]
    fn a_containers_limit_counts_less_what_it_uses() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(group_available(folder.path()), None);
        fs::write(folder.path().join("memory.max"), "max\n").unwrap();
        fs::write(folder.path().join("memory.current"), "400\n").unwrap();
        assert_eq!(group_available(folder.path()), None);
        fs::write(folder.path().join("memory.max"), "1000\n").unwrap();
        assert_eq!(group_available(folder.path()), Some(600));
    }
}
