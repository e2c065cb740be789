// The measured loop of MNN's benchmark (benchmark/benchmark.cpp, doBench), for a model whose weights lie beside it.
// Built as a library that a process loads after MNN's extension module, so that it runs that very code.
// Inputs are written in the timed region, where doBench maps them without writing: its own outputs lie there.
#include <MNN/AutoTime.hpp>
#include <MNN/Interpreter.hpp>
#include <MNN/Tensor.hpp>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <vector>

namespace {

std::vector<char> Read(const char* path) {
  std::ifstream stream(path, std::ios::binary);
  return std::vector<char>((std::istreambuf_iterator<char>(stream)), {});
}

}  // namespace

// Milliseconds of `runs` runs into `found`; 0, or what went wrong.
extern "C" int bench_mnn(const char* model, const char* weights, int threads, int warm_up, int runs, int count,
                         const char** names, const char** files, double* found) {
  std::shared_ptr<MNN::Interpreter> net(MNN::Interpreter::createFromFile(model), MNN::Interpreter::destroy);
  if (net == nullptr) return 1;
  net->setExternalFile(weights);
  net->setSessionMode(MNN::Interpreter::Session_Release);
  MNN::BackendConfig backend;
  backend.precision = MNN::BackendConfig::Precision_High;
  backend.power = MNN::BackendConfig::Power_High;
  MNN::ScheduleConfig config;
  config.numThread = threads;
  config.type = MNN_FORWARD_CPU;
  config.backendConfig = &backend;
  MNN::Session* session = net->createSession(config);
  if (session == nullptr) return 2;
  net->releaseModel();
  std::vector<MNN::Tensor*> inputs;
  std::vector<std::vector<char>> values;
  for (int index = 0; index < count; ++index) {
    MNN::Tensor* input = net->getSessionInput(session, names[index]);
    if (input == nullptr) continue;
    inputs.push_back(input);
    values.push_back(Read(files[index]));
  }
  auto output = net->getSessionOutput(session, nullptr);
  for (int round = -warm_up; round < runs; ++round) {
    MNN::Timer timer;
    for (size_t index = 0; index < inputs.size(); ++index) {
      void* host = inputs[index]->map(MNN::Tensor::MAP_TENSOR_WRITE, MNN::Tensor::CAFFE);
      std::memcpy(host, values[index].data(), values[index].size());
      inputs[index]->unmap(MNN::Tensor::MAP_TENSOR_WRITE, MNN::Tensor::CAFFE, host);
    }
    if (net->runSession(session) != MNN::NO_ERROR) return 3;
    void* host = output->map(MNN::Tensor::MAP_TENSOR_READ, output->getDimensionType());
    output->unmap(MNN::Tensor::MAP_TENSOR_READ, output->getDimensionType(), host);
    if (round >= 0) found[round] = timer.durationInUs() / 1000.0;
  }
  return 0;
}
