/**
 * Kernel structures and constants of Linux on amd64 and arm64: offsets and sizes in bytes, each with its C declaration named. What C compilers of both
 * say is compared with every line of it (test/unit/gateway/layouts.test.ts): a constant's name is that of C, or is translated there.
 * Integers are in the byte order of the machine (little-endian on amd64 and arm64), but for addresses and ports.
 */
/** struct iovec { void *iov_base; size_t iov_len; } */
export const IOVEC = { size: 16, base: 0, length: 8 } as const
/** struct msghdr */
export const MSGHDR = {
  size: 56,
  name: 0,
  nameLength: 8,
  iov: 16,
  iovLength: 24,
  control: 32,
  controlLength: 40,
  flags: 48,
} as const
/** struct mmsghdr { struct msghdr msg_hdr; unsigned int msg_len; } */
export const MMSGHDR = { size: 64, length: 56 } as const
/** struct cmsghdr { size_t cmsg_len; int cmsg_level; int cmsg_type; }; data follows, padded to 8 */
export const CMSGHDR = { size: 16, length: 0, level: 8, type: 12 } as const
/** struct pollfd { int fd; short events; short revents; } */
export const POLLFD = { size: 8, fd: 0, events: 4, revents: 6 } as const
/** struct sockaddr_in, struct sockaddr_in6 */
export const SOCKADDR = { size4: 16, size6: 28, family: 0, port: 2, address4: 4, address6: 8 } as const
/** struct sockaddr_un { sa_family_t sun_family; char sun_path[108]; } */
export const SOCKADDR_UN = { size: 110, path: 2, pathLength: 108 } as const
/** struct epoll_event { uint32_t events; epoll_data_t data; }, of 64 bits: packed on x86-64, and nowhere else */
export function epollEvent(architecture: string) {
  return architecture === 'x64' ? { size: 12, events: 0, data: 4 } : { size: 16, events: 0, data: 8 }
}
export const EPOLL_EVENT = epollEvent(process.arch)
/** struct timespec { time_t tv_sec; long tv_nsec; }, and struct timeval with microseconds */
export const TIMESPEC = { size: 16, seconds: 0, fraction: 8 } as const
/** struct ifreq { char ifr_name[IFNAMSIZ]; union { short ifr_flags; ... }; } */
export const IFREQ = { size: 40, name: 0, flags: 16 } as const
/** struct sock_extended_err { u32 ee_errno; u8 ee_origin, ee_type, ee_code, ee_pad; u32 ee_info, ee_data; } */
export const EXTENDED_ERROR = { size: 16, errno: 0, info: 8 } as const

/** struct virtio_net_hdr (10 bytes), little-endian */
export const VNET = {
  size: 10,
  flags: 0,
  gsoType: 1,
  headerLength: 2,
  gsoSize: 4,
  checksumStart: 6,
  checksumOffset: 8,
} as const
export const VNET_NEEDS_CHECKSUM = 1

export const O_RDWR = 0o2
export const O_NONBLOCK = 0o4000
export const LOCK_EX = 2
export const LOCK_NB = 4
export const EFD_NONBLOCK = 0o4000
export const EFD_CLOEXEC = 0o2000000
export const EPOLL_CTL_ADD = 1
export const EPOLL_CTL_DEL = 2
export const EPOLL_CTL_MOD = 3
export const EPOLLIN = 1
export const EPOLLONESHOT = 1 << 30
export const EPOLL_CLOEXEC = 0o2000000

export const TUNSETIFF = 0x400454ca
export const TUNSETPERSIST = 0x400454cb
export const TUNSETOFFLOAD = 0x400454d0
export const TUNSETVNETHDRSZ = 0x400454d8
export const IFF_TUN = 0x0001
export const IFF_NO_PI = 0x1000
export const IFF_VNET_HDR = 0x4000
/** USO: of Linux 6.2 */
export const TUN_F = { csum: 0x01, tso4: 0x02, tso6: 0x04, tsoEcn: 0x08, uso4: 0x20, uso6: 0x40 } as const

export const AF_UNIX = 1
export const AF_INET = 2
export const AF_INET6 = 10
export const AF_NETLINK = 16
export const SOCK_DGRAM = 2
export const SOCK_RAW = 3
export const SOCK_SEQPACKET = 5
export const SOCK_NONBLOCK = 0o4000
export const SOCK_CLOEXEC = 0o2000000

export const POLLIN = 1
export const POLLOUT = 4
export const POLLERR = 8
export const MSG_TRUNC = 0x20
export const MSG_DONTWAIT = 0x40
export const MSG_ERRQUEUE = 0x2000
export const MSG_NOSIGNAL = 0x4000

export const SOL_SOCKET = 1
export const SO_SNDBUF = 7
export const SO_RCVBUF = 8
export const SO_SNDBUFFORCE = 32
export const SO_RCVBUFFORCE = 33
export const SO_RCVTIMEO = 20
export const SOL_IP = 0
export const IP_TOS = 1
export const IP_MTU_DISCOVER = 10
export const IP_RECVERR = 11
export const IP_RECVTOS = 13
export const SOL_IPV6 = 41
export const IPV6_MTU_DISCOVER = 23
export const IPV6_RECVERR = 25
export const IPV6_V6ONLY = 26
export const IPV6_RECVTCLASS = 66
export const IPV6_TCLASS = 67
export const PMTUDISC_PROBE = 3
export const SOL_UDP = 17
export const UDP_SEGMENT = 103
export const UDP_GRO = 104
/** Segments that one message may have. */
export const UDP_MAX_SEGMENTS = 64

export const Errno = {
  EPERM: 1,
  ENOENT: 2,
  ESRCH: 3,
  EINTR: 4,
  EIO: 5,
  EAGAIN: 11,
  ENOMEM: 12,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  EINVAL: 22,
  ENOSPC: 28,
  EPIPE: 32,
  EMSGSIZE: 90,
  EOPNOTSUPP: 95,
  EADDRINUSE: 98,
  EADDRNOTAVAIL: 99,
  ENETDOWN: 100,
  ENETUNREACH: 101,
  ECONNRESET: 104,
  ENOBUFS: 105,
  ECONNREFUSED: 111,
  EHOSTUNREACH: 113,
} as const
