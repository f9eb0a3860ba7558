// Prints the addresses of a name, or the name of an address, as the C library finds them: for a library that has no getent of its own.
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv) {
  char text[INET6_ADDRSTRLEN], name[256];
  struct addrinfo hints, *found, *one;
  if (argc != 3) return 2;
  memset(&hints, 0, sizeof hints);
  hints.ai_socktype = SOCK_STREAM;
  if (strcmp(argv[1], "name") == 0) hints.ai_flags = AI_NUMERICHOST;
  int code = getaddrinfo(argv[2], 0, &hints, &found);
  if (code != 0) return printf("%s\n", gai_strerror(code)), 1;
  for (one = found; one; one = one->ai_next) {
    if (strcmp(argv[1], "name") == 0) {
      code = getnameinfo(one->ai_addr, one->ai_addrlen, name, sizeof name, 0, 0, NI_NAMEREQD);
      printf("%s\n", code == 0 ? name : gai_strerror(code));
      return code != 0;
    }
    const void *address = one->ai_family == AF_INET ? (void *)&((struct sockaddr_in *)one->ai_addr)->sin_addr
                                                    : (void *)&((struct sockaddr_in6 *)one->ai_addr)->sin6_addr;
    printf("%s\n", inet_ntop(one->ai_family, address, text, sizeof text));
  }
  return 0;
}
