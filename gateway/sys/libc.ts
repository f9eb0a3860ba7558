/**
 * The C library, through koffi: the only file that imports it.
 *
 * Raw calls take file descriptors, native addresses (plain numbers) and lengths, return what the call returned, and never throw;
 * after a −1, `errno()` tells why. `check` turns that into a SysError for everything that is not on the path of packets.
 * Memory whose address the kernel has must never be collected: it comes from an Arena, which lives for ever.
 */
import koffi from 'koffi'
import { Errno } from './layouts.ts'

const libc = koffi.load('libc.so.6')
type Call = (...args: number[]) => number
const bind = (prototype: string): Call => libc.func(prototype) as unknown as Call

export const ppoll = bind('int ppoll(uintptr_t fds, unsigned int n, uintptr_t timeout, uintptr_t mask)')
export const read = bind('long read(int fd, uintptr_t buffer, size_t n)')
export const write = bind('long write(int fd, uintptr_t buffer, size_t n)')
export const writev = bind('long writev(int fd, uintptr_t iov, int n)')
export const recvmmsg = bind('int recvmmsg(int fd, uintptr_t messages, unsigned int n, int flags, uintptr_t timeout)')
export const sendmmsg = bind('int sendmmsg(int fd, uintptr_t messages, unsigned int n, int flags)')
export const sendmsg = bind('long sendmsg(int fd, uintptr_t message, int flags)')
export const recvmsg = bind('long recvmsg(int fd, uintptr_t message, int flags)')
export const send = bind('long send(int fd, uintptr_t buffer, size_t n, int flags)')
export const recv = bind('long recv(int fd, uintptr_t buffer, size_t n, int flags)')
export const sendto = bind(
  'long sendto(int fd, uintptr_t buffer, size_t n, int flags, uintptr_t address, unsigned int length)',
)
export const socket = bind('int socket(int family, int type, int protocol)')
export const bindSocket = bind('int bind(int fd, uintptr_t address, unsigned int length)')
export const connectSocket = bind('int connect(int fd, uintptr_t address, unsigned int length)')
export const listenSocket = bind('int listen(int fd, int backlog)')
export const accept4 = bind('int accept4(int fd, uintptr_t address, uintptr_t length, int flags)')
export const setsockopt = bind('int setsockopt(int fd, int level, int name, uintptr_t value, unsigned int length)')
export const getsockname = bind('int getsockname(int fd, uintptr_t address, uintptr_t length)')
export const ioctl = bind('int ioctl(int fd, unsigned long request, uintptr_t argument)')
export const close = bind('int close(int fd)')
export const fcntl = bind('int fcntl(int fd, int command, int argument)')
export const eventfd = bind('int eventfd(unsigned int initial, int flags)')
export const flock = bind('int flock(int fd, int operation)')
export const epollCreate = bind('int epoll_create1(int flags)')
export const epollControl = bind('int epoll_ctl(int fd, int operation, int target, uintptr_t event)')
const epollWaitFunction = libc.func('int epoll_wait(int fd, uintptr_t events, int most, int timeout)')

/** Waits on another thread of koffi's, so that this one goes on. */
export function epollWaitAsync(fd: number, events: number, most: number, done: (count: number) => void): void {
  epollWaitFunction.async(fd, events, most, -1, (error: Error | null, count: number) => done(error ? -1 : count))
}

export function errno(): number {
  return koffi.errno()
}

/** Native address of a buffer that is never collected and never grown. */
export function nativeAddress(buffer: Uint8Array): number {
  return Number(koffi.address(buffer))
}

const names = new Map<number, string>(Object.entries(Errno).map(([name, value]) => [value, name]))

export function errorName(code: number): string {
  return names.get(code) ?? `errno ${code}`
}

/** A system call that failed: `code` is EACCES and the like, `call` what was tried. */
export class SysError extends Error {
  readonly code: string
  readonly errno: number

  constructor(call: string, errno: number) {
    super(`${call}: ${errorName(errno)}`)
    this.name = 'SysError'
    this.code = errorName(errno)
    this.errno = errno
  }
}

/** The result, or a SysError when it is −1. */
export function check(call: string, result: number): number {
  if (result < 0) throw new SysError(call, errno())
  return result
}
