/**
 * The TUN device: layer 3 packets, each behind a virtio network header (10 bytes) that tells checksum and segmentation offloads
 * (Linux Documentation/networking/tuntap.rst, virtio 1.2 section 5.1.6).
 *
 * The device is persistent: it stays, with its addresses and routes, while no gateway runs, and the next one attaches to it again.
 */
import { closeSync, openSync } from 'node:fs'
import { type Hindrance, hindranceText } from '../../runtime/steps.ts'
import {
  Errno,
  IFF_NO_PI,
  IFF_TUN,
  IFF_VNET_HDR,
  IFREQ,
  O_NONBLOCK,
  O_RDWR,
  TUN_F,
  TUNSETIFF,
  TUNSETOFFLOAD,
  TUNSETPERSIST,
  TUNSETVNETHDRSZ,
  VNET,
} from './layouts.ts'
import { check, errno, ioctl, SysError } from './libc.ts'
import { scratch } from './scratch.ts'

export const TUN_PATH = '/dev/net/tun'

export interface TunOffloads {
  tso4: boolean
  tso6: boolean
  uso4: boolean
  uso6: boolean
}

/** Opens or makes the device, non-blocking; the offloads that the kernel took. */
export function openTun(wanted: { name: string; offloads: TunOffloads }): { fd: number; offloads: TunOffloads } {
  if (!/^[^\s/]{1,15}$/.test(wanted.name))
    throw new Error(`TUN name ${JSON.stringify(wanted.name)}: 1 to 15 characters without / or space`)
  const fd = openPath()
  try {
    attach(fd, wanted.name)
    check('TUNSETPERSIST', ioctl(fd, TUNSETPERSIST, 1))
    const memory = scratch()
    memory.view.setInt32(64, VNET.size, true)
    check('TUNSETVNETHDRSZ', ioctl(fd, TUNSETVNETHDRSZ, memory.address(64)))
    return { fd, offloads: negotiate(fd, wanted.offloads) }
  } catch (error) {
    closeSync(fd)
    throw error
  }
}

function openPath(): number {
  try {
    return openSync(TUN_PATH, O_RDWR | O_NONBLOCK)
  } catch (error) {
    throw new Error(hindranceText(tunRefusal(error as NodeJS.ErrnoException)))
  }
}

/** Why the device file cannot be opened, and what to do about it. */
export function tunRefusal({ code, message }: NodeJS.ErrnoException): Hindrance {
  if (code === 'ENOENT' || code === 'ENODEV' || code === 'ENXIO')
    return { what: `${TUN_PATH} is not there`, fix: 'modprobe tun; in a container: --device /dev/net/tun' }
  if (code === 'EPERM' || code === 'EACCES')
    return {
      what: `${TUN_PATH} is refused (${code}): the container runtime or a security module keeps it from us`,
      fix: 'allow the device (SELinux: gateway.seLinuxOptions); last resort, in the chart: gateway.privileged=true',
    }
  return { what: `${TUN_PATH}: ${message}`, fix: 'look at the log of the kernel' }
}

function attach(fd: number, name: string): void {
  const memory = scratch()
  memory.bytes.fill(0, 64, 64 + IFREQ.size)
  memory.bytes.set(Buffer.from(name), 64 + IFREQ.name)
  memory.view.setUint16(64 + IFREQ.flags, IFF_TUN | IFF_NO_PI | IFF_VNET_HDR, true)
  if (ioctl(fd, TUNSETIFF, memory.address(64)) >= 0) return
  const error = new SysError(`TUNSETIFF ${name}`, errno())
  if (error.errno === Errno.EBUSY) error.message += ': another process is attached to it'
  if (error.errno === Errno.EPERM) error.message += ': needs CAP_NET_ADMIN'
  throw error
}

// all that is wanted, then without USO (Linux before 6.2), then nothing
function negotiate(fd: number, wanted: TunOffloads): TunOffloads {
  const none = { tso4: false, tso6: false, uso4: false, uso6: false }
  for (const offloads of [wanted, { ...wanted, uso4: false, uso6: false }, none]) {
    if (setTunOffloads(fd, offloads)) return offloads
  }
  return none
}

/** False: the kernel does not know one of them. USO is taken for both families or none. */
export function setTunOffloads(fd: number, offloads: TunOffloads): boolean {
  const any = Object.values(offloads).some(on => on)
  let flags = any ? TUN_F.csum : 0
  if (offloads.tso4) flags |= TUN_F.tso4
  if (offloads.tso6) flags |= TUN_F.tso6
  if (offloads.tso4 || offloads.tso6) flags |= TUN_F.tsoEcn
  if (offloads.uso4) flags |= TUN_F.uso4
  if (offloads.uso6) flags |= TUN_F.uso6
  return ioctl(fd, TUNSETOFFLOAD, flags) >= 0
}

/** Removes the device; nothing happens when it is not there. */
export function removeTun(name: string): void {
  const fd = openPath()
  try {
    attach(fd, name)
    check('TUNSETPERSIST', ioctl(fd, TUNSETPERSIST, 0))
  } finally {
    closeSync(fd)
  }
}
