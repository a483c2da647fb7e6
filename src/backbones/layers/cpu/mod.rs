//! f32 on the CPU: what the layers do with most of their time, written for channels-last slices.
//!
//! candle's convolution copies its input into another layout and packs its kernel at every call;
//! here weights are packed once, at load, and a convolution reads its input where it lies. Every
//! result depends on its own row alone, whatever the number of threads and of other rows.

pub mod attention;
pub mod elementwise;
mod math;
pub mod norm;
pub mod product;
pub mod scratch;
pub mod winograd;

use candle_core::{CpuStorage, Storage, Tensor};

use crate::{Error, Result};

/// Calls `f` with the values of an f32 tensor on the CPU, in row-major order.
pub fn with_values<R>(x: &Tensor, f: impl FnOnce(&[f32]) -> R) -> Result<R> {
    let x = x.contiguous()?;
    let (storage, layout) = x.storage_and_layout();
    let (Storage::Cpu(CpuStorage::F32(values)), Some((start, end))) =
        (&*storage, layout.contiguous_offsets())
    else {
        return Err(Error::Internal("a tensor is not f32 on the CPU".into()));
    };
    Ok(f(&values[start..end]))
}

/// A new f32 tensor of `shape` on the CPU, which `fill` writes.
pub fn tensor(shape: &[usize], fill: impl FnOnce(&mut [f32])) -> Result<Tensor> {
    let mut values = vec![0f32; shape.iter().product()];
    fill(&mut values);
    Ok(Tensor::from_vec(values, shape, &candle_core::Device::Cpu)?)
}

/// The values of an f32 tensor on the CPU.
pub fn values(x: &Tensor) -> Result<Vec<f32>> {
    with_values(x, <[f32]>::to_vec)
}

/// x + y of one shape, on any device. candle shares a sum on the CPU out among threads of its own, which
/// stand in the way of those that are computing other rows.
pub fn add(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    if !applies_to(x) || !applies_to(y) || x.dims() != y.dims() {
        return Ok((x + y)?);
    }
    with_values(x, |x_values| {
        with_values(y, |y_values| {
            tensor(x.dims(), |out| elementwise::add(x_values, y_values, out))
        })
    })??
}

/// Whether the functions of this module apply to a tensor.
pub fn applies_to(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == candle_core::DType::F32
}

/// Compiles a function of slices for the vector instructions that machines may have, and calls the
/// best version for this one.
macro_rules! vectorized {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        $vis fn $name($($arg: $type),*) {
            #[inline(always)]
            fn body($($arg: $type),*) $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx2,fma")]
                fn wide($($arg: $type),*) {
                    body($($arg),*)
                }
                #[target_feature(enable = "avx2,fma")]
                fn middle($($arg: $type),*) {
                    body($($arg),*)
                }
                match $crate::backbones::layers::cpu::product::instructions() {
                    // SAFETY: the instructions were found on this machine.
                    $crate::backbones::layers::cpu::product::Instructions::Avx512 => {
                        return unsafe { wide($($arg),*) };
                    }
                    // SAFETY: as above.
                    $crate::backbones::layers::cpu::product::Instructions::Avx2 => {
                        return unsafe { middle($($arg),*) };
                    }
                    _ => {}
                }
            }
            body($($arg),*)
        }
    };
}
pub(crate) use vectorized;
