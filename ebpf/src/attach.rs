use aya::programs::links::FdLink;
use aya::programs::{Xdp, XdpMode};

use crate::error::Refusal;
use crate::kernel::flat;
use crate::settings::Method;

/// Attaches a program by a link, which the kernel takes away with the process. aya would fall back to an attachment that
/// outlives it: that is undone and refused.
pub(crate) fn attach(program: &mut Xdp, index: u32, method: Method) -> Result<FdLink, Refusal> {
    let mode = match method {
        Method::Native => XdpMode::Driver,
        _ => XdpMode::Skb,
    };
    let id = program.attach_to_if_index(index, mode).map_err(flat)?;
    let link = program.take_link(id).map_err(flat)?;
    FdLink::try_from(link)
        .map_err(|_| Refusal::Other("the kernel does not attach XDP programs by links".to_owned()))
}
