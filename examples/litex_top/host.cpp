// The host of the system: carries out requests on its AXI4-Lite port, for the Python that asks for them.
//
// A request is three words of 32 bits on the standard input: what to do, an address, a number.
//   'r' address n   read n words; they are the answer
//   'w' address n   write the n words that follow; no answer
//   'a' 0 n         let n clocks pass, or fewer if there is an interrupt; the answer: whether there is one
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "Vsoc.h"
#include "verilated.h"

namespace {

constexpr uint32_t kPatience = 100000;  // clocks
const auto soc = std::make_unique<Vsoc>();

void tick() {
  soc->clk = 1;
  soc->eval();
  soc->clk = 0;
  soc->eval();
}

// Clocks until all parts of a transfer are done; a channel's `valid` falls when it was taken.
template <typename Done>
void until(const char* what, uint32_t address, Done done) {
  for (uint32_t clock = 0; !done(); ++clock) {
    if (clock == kPatience) {
      std::fprintf(stderr, "no answer to a %s of %#x in %u clocks\n", what, address, kPatience);
      std::exit(1);
    }
  }
}

void take(uint8_t& valid, bool ready) {
  if (ready) valid = 0;
}

uint32_t read(uint32_t address) {
  uint32_t value = 0;
  soc->host_araddr = address;
  soc->host_arvalid = soc->host_rready = 1;
  until("read", address, [&value] {
    soc->eval();
    const bool came = soc->host_rvalid, taken = soc->host_arready;
    value = soc->host_rdata;
    tick();
    take(soc->host_arvalid, taken);
    return came;
  });
  soc->host_rready = 0;
  return value;
}

void write(uint32_t address, uint32_t value) {
  soc->host_awaddr = address;
  soc->host_wdata = value;
  soc->host_wstrb = 15;
  soc->host_awvalid = soc->host_wvalid = soc->host_bready = 1;
  until("write", address, [] {
    soc->eval();
    const bool came = soc->host_bvalid, address_taken = soc->host_awready, data_taken = soc->host_wready;
    tick();
    take(soc->host_awvalid, address_taken);
    take(soc->host_wvalid, data_taken);
    return came;
  });
  soc->host_bready = 0;
}

}  // namespace

int main() {
  soc->rst = 1;
  for (int clock = 0; clock < 8; ++clock) tick();
  soc->rst = 0;
  uint32_t request[3];
  std::vector<uint32_t> words;
  while (std::fread(request, sizeof(uint32_t), 3, stdin) == 3) {
    const auto [what, address, number] = request;
    words.resize(what == 'a' ? 1 : number);
    if (what == 'w' && std::fread(words.data(), sizeof(uint32_t), number, stdin) != number) return 1;
    if (what == 'a') {
      for (uint32_t clock = 0; clock < number && !soc->irq; ++clock) tick();
      words[0] = soc->irq;
    } else {
      for (uint32_t word = 0; word < number; ++word) {
        if (what == 'r') words[word] = read(address + 4 * word);
        if (what == 'w') write(address + 4 * word, words[word]);
      }
    }
    if (what != 'w') std::fwrite(words.data(), sizeof(uint32_t), words.size(), stdout);
    std::fflush(stdout);
  }
  return 0;
}
