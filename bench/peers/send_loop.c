/* The kernel's own price: one thread around epoll_wait, recv and send, with nothing above the bytes.
 *
 *   send_loop fanout    what one connection sends goes to all the others
 *   send_loop echo      what a connection sends goes back to it
 *
 * Prints the port it listens on; ends when its standard input does. */

#define _GNU_SOURCE
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_CONNECTIONS = 65536, MAX_READY = 1024 };

static int connections[MAX_CONNECTIONS];
static int count;
static char buffer[65536];

static void watch(int epoll, int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

static void send_all(int fd, ssize_t size) {
    for (ssize_t sent = 0, n; sent < size; sent += n)
        if ((n = send(fd, buffer + sent, size - sent, MSG_NOSIGNAL)) <= 0) return;
}

static void forget(int fd) {
    for (int i = 0; i < count; i++)
        if (connections[i] == fd) connections[i--] = connections[--count];
    close(fd);
}

static void welcome(int epoll, int listener) {
    int fd = accept(listener, NULL, NULL), on = 1;
    if (fd < 0) return;
    if (count == MAX_CONNECTIONS) {
        close(fd);
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    connections[count++] = fd;
    watch(epoll, fd);
}

static void serve(int fd, int echo) {
    ssize_t size = recv(fd, buffer, sizeof buffer, 0);
    if (size <= 0)
        forget(fd);
    else if (echo)
        send_all(fd, size);
    else
        for (int i = 0; i < count; i++)
            if (connections[i] != fd) send_all(connections[i], size);
}

int main(int argc, char **argv) {
    int echo = argc > 1 && !strcmp(argv[1], "echo");
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0), epoll = epoll_create1(0);
    if (bind(listener, (struct sockaddr *)&address, length) || listen(listener, 4096)) return 1;
    getsockname(listener, (struct sockaddr *)&address, &length);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    watch(epoll, listener);
    watch(epoll, STDIN_FILENO);
    for (;;) {
        struct epoll_event ready[MAX_READY];
        int n = epoll_wait(epoll, ready, MAX_READY, -1);
        for (int i = 0; i < n; i++) {
            int fd = ready[i].data.fd;
            if (fd == STDIN_FILENO) return 0;
            if (fd == listener)
                welcome(epoll, listener);
            else
                serve(fd, echo);
        }
    }
}
