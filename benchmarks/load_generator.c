/* As little of a load generator as there can be: each connection has its request rendered once, and gets eleven digits
 * patched into it before it is sent again. Nothing is measured but how many answers were 200 in the time given.
 *
 * blast PORT PATH CONNECTIONS SECONDS FIRST TEMPLATE MARK
 * Prints: {"requests": answered with 200, "not_200": otherwise, "duration_us": microseconds}
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST_MARKS = 64, ANSWER = 4096 };

struct connection {
  int socket, filled;
  char *request;
  char answer[ANSWER];
};

static size_t length, marks[MOST_MARKS], count, width;
static long long number;

static void die(const char *what) {
  perror(what);
  exit(1);
}

static long long now_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

static void send_next(struct connection *c) {
  char digits[32];
  snprintf(digits, sizeof digits, "%0*lld", (int)width, number++);
  for (size_t i = 0; i < count; i++) memcpy(c->request + marks[i], digits, width);
  c->filled = 0;
  /* A request is far smaller than a socket's buffer, which is empty as the last one was answered. */
  if (write(c->socket, c->request, length) != (ssize_t)length) die("write");
}

/* The length of the whole answer, or 0 if its head is not there yet. */
static int answer_length(struct connection *c) {
  c->answer[c->filled] = 0;
  char *end = strstr(c->answer, "\r\n\r\n");
  if (!end) return 0;
  char *found = strcasestr(c->answer, "\r\ncontent-length:");
  return (int)(end - c->answer) + 4 + (found && found < end ? atoi(found + 17) : 0);
}

int main(int argc, char **argv) {
  if (argc != 8) return 2;
  int port = atoi(argv[1]), connections = atoi(argv[3]);
  double seconds = atof(argv[4]);
  number = atoll(argv[5]);
  width = strlen(argv[7]);

  FILE *file = fopen(argv[6], "rb");
  if (!file) die(argv[6]);
  char body[65536];
  size_t body_length = fread(body, 1, sizeof body - 1, file);
  body[body_length] = 0;
  fclose(file);

  char request[sizeof body + 1024];
  length = (size_t)snprintf(request, sizeof request,
    "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json; charset=utf-8\r\n"
    "Content-Length: %zu\r\n\r\n%s", argv[2], port, body_length, body);
  for (char *at = request; (at = strstr(at, argv[7])) && count < MOST_MARKS; at += width) marks[count++] = at - request;

  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
  int poll = epoll_create1(0);
  struct connection *all = calloc(connections, sizeof *all);
  for (int i = 0; i < connections; i++) {
    struct connection *c = &all[i];
    c->request = malloc(length);
    memcpy(c->request, request, length);
    c->socket = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(c->socket, (struct sockaddr *)&address, sizeof address)) die("connect");
    int yes = 1;
    setsockopt(c->socket, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(poll, EPOLL_CTL_ADD, c->socket, &event)) die("epoll_ctl");
  }

  long long started = now_us(), end = started + (long long)(seconds * 1e6), good = 0, bad = 0, now = started;
  int under_way = connections;
  for (int i = 0; i < connections; i++) send_next(&all[i]);
  struct epoll_event events[256];
  while (under_way) {
    int ready = epoll_wait(poll, events, 256, 10000);
    if (ready <= 0) {
      bad += under_way;
      break;
    }
    now = now_us();
    for (int i = 0; i < ready; i++) {
      struct connection *c = events[i].data.ptr;
      ssize_t got = read(c->socket, c->answer + c->filled, ANSWER - 1 - c->filled);
      if (got <= 0) {
        bad++, under_way--;
        epoll_ctl(poll, EPOLL_CTL_DEL, c->socket, NULL);
        continue;
      }
      c->filled += (int)got;
      int whole = answer_length(c);
      if (!whole || c->filled < whole) continue;
      if (strncmp(c->answer, "HTTP/1.1 200 ", 13) == 0) good++;
      else bad++;
      /* The last requests are waited for, and are within the time that is told. */
      if (now < end) send_next(c);
      else under_way--;
    }
  }
  printf("{\"requests\": %lld, \"not_200\": %lld, \"duration_us\": %lld}\n", good, bad, now_us() - started);
  return 0;
}
