"""The command line in Portuguese: each sentence by its English one, or by a code of the service."""

from collections.abc import Mapping

__all__ = ["ERRORS", "REASONS", "SENTENCES"]

SENTENCES: Mapping[str, str] = {
    "Print JSON with the fields of the API.": "Imprime JSON com os campos da API.",
    "The scheduler's id of the job, or its uid.": "O id do job no escalonador, ou o seu uid.",
    "The scheduler's ids of the jobs, or uids.": "Os ids dos jobs no escalonador, ou os uids.",
    "Write qsub, qstat and qdel for scripts that expect the original's.": (
        "Grava qsub, qstat e qdel para scripts que esperam os do original."
    ),
    "Submit a script, as the original's qsub.": "Submete um script, como o qsub do original.",
    "List jobs that are not over, as the original's qstat.": (
        "Lista os jobs que não terminaram, como o qstat do original."
    ),
    "End a job, as the original's qdel.": "Encerra um job, como o qdel do original.",
    "Commands as the original offered them.": "Comandos como o original os oferecia.",
    "A folder for your PATH.": "Uma pasta para o seu PATH.",
    "{file} cannot be written: {why}.": "Não é possível gravar {file}: {why}.",
    "The script.": "O script.",
    "CPUs to reserve.": "CPUs a reservar.",
    "Arguments of the script.": "Argumentos do script.",
    "The job's name.": "O nome do job.",
    "Where it runs; default: here.": "Onde é executado; por padrão, aqui.",
    "Only this job.": "Somente este job.",
    "The job's id.": "O id do job.",
    "{file} is another command; choose an empty folder.": (
        "{file} é outro comando; escolha uma pasta vazia."
    ),
    "Show the jobs live, to sort, filter, open and end them.": (
        "Mostra os jobs ao vivo, para ordenar, filtrar, abrir e encerrar."
    ),
    "hpcq top needs a terminal; a script can use `hpcq ls` and `hpcq events`.": (
        "hpcq top precisa de um terminal; um script pode usar `hpcq ls` e `hpcq events`."
    ),
    "Back": "Voltar",
    "Output/errors": "Saída/erros",
    "Open": "Abrir",
    "Filter": "Filtrar",
    "Sort": "Ordenar",
    "End": "Encerrar",
    "Hold": "Reter",
    "Release": "Liberar",
    "Help": "Ajuda",
    "Quit": "Sair",
    "y yes   n no": "s sim   n não",
    "choose a job": "escolhem um job",
    "open it: all that is known, and its output as it is written": (
        "abre-o: tudo o que se sabe, e a saída enquanto é escrita"
    ),
    "show the jobs alone that hold these words; Escape shows all": (
        "mostra somente os jobs com estas palavras; Escape mostra todos"
    ),
    "sort by the next column; turn the order round": "ordena pela próxima coluna; inverte a ordem",
    "end the job, or take it off the listing when it is over": (
        "encerra o job, ou o tira da lista se terminou"
    ),
    "hold the queued job; release it": "retém o job na fila; libera-o",
    "in an open job: its errors in the place of its output": (
        "em um job aberto: os erros em lugar da saída"
    ),
    "back; leave": "volta; sai",
    "Reading the jobs …": "Lendo os jobs …",
    "words; Enter keeps them, Escape shows all": "palavras; Enter as mantém, Escape mostra todos",
    "The service is back.": "O serviço voltou.",
    " The connection is lost; trying again … ": " A conexão caiu; tentando de novo … ",
    "jobs: {shown} of {count}": "jobs: {shown} de {count}",
    "jobs: {count}": "jobs: {count}",
    "The scheduler is silent; this is old.": "O escalonador não responde; isto é antigo.",
    "Take {job} off the listing?": "Tirar {job} da lista?",
    "End {job}?": "Encerrar {job}?",
    "{job}: done.": "{job}: feito.",
    "List jobs, your own first.": "Lista os jobs, os seus primeiro.",
    "Show all that is known of a job.": "Mostra tudo o que se sabe de um job.",
    "End jobs, or take ended ones off the listing.": (
        "Encerra jobs, ou tira da lista os que terminaram."
    ),
    "Change what queued jobs ask for.": "Altera o que jobs na fila pedem.",
    "Only these tasks of an array: 3-7,9.": "Somente estas tarefas de um array: 3-7,9.",
    "Say what to change: --name, --queue, --time, --memory or --field.": (
        "Diga o que alterar: --name, --queue, --time, --memory ou --field."
    ),
    "Keep queued jobs from starting.": "Impede que jobs na fila comecem.",
    "Let held jobs start.": "Libera jobs retidos.",
    "Stop the processes of running jobs.": "Suspende os processos de jobs em execução.",
    "Let suspended jobs go on.": "Faz jobs suspensos continuarem.",
    "End running jobs and put them back into the queue.": (
        "Encerra jobs em execução e os devolve à fila."
    ),
    "Send a signal to running jobs.": "Envia um sinal a jobs em execução.",
    "Print what a job wrote.": "Imprime o que um job escreveu.",
    "Wait until jobs are over, and exit as the first of them that failed.": (
        "Espera jobs terminarem e sai como o primeiro que falhou."
    ),
    "Show what a job used over time.": "Mostra o que um job usou ao longo do tempo.",
    "job": "job",
    "state": "estado",
    "name": "nome",
    "owner": "dono",
    "queue": "fila",
    "slots": "slots",
    "elapsed": "duração",
    "remark": "observação",
    "--watch needs a terminal; a script can follow `hpcq events`.": (
        "--watch precisa de um terminal; um script pode seguir `hpcq events`."
    ),
    "Serve jobs, programs and queues as tools of a language model (MCP).": (
        "Oferece jobs, programas e filas como ferramentas de um modelo de linguagem (MCP)."
    ),
    "Also tools that submit and cancel jobs.": ("Também ferramentas que submetem e cancelam jobs."),
    "Serve HTTP there; default: standard input.": (
        "Atende por HTTP nessa porta; por padrão, pela entrada padrão."
    ),
    "The address to listen on, with --port.": "O endereço em que escuta, com --port.",
    "A host by whose name clients come, with --port.": (
        "Um nome pelo qual os clientes chegam, com --port."
    ),
    "`hpcq mcp` needs one package more: pip install 'hpc-queue-api[mcp]'.": (
        "`hpcq mcp` precisa de mais um pacote: pip install 'hpc-queue-api[mcp]'."
    ),
    "An assistant starts this; nothing is to be typed here.": (
        "Um assistente inicia este comando; não há nada a digitar aqui."
    ),
    "{host} port {port} cannot be listened on: {why}.": (
        "Não é possível escutar em {host}, porta {port}: {why}."
    ),
    "MCP is served at {url}.": "O MCP atende em {url}.",
    "--host and --name need --port.": "--host e --name precisam de --port.",
    "The service asks nobody who they are (AUTH=none); serve MCP without --port.": (
        "O serviço não pergunta a ninguém quem é (AUTH=none); use MCP sem --port."
    ),
    "uid": "uid",
    "scheduler's words": "palavras do escalonador",
    "exit code": "código de saída",
    "signal": "sinal",
    "account": "conta",
    "hosts": "máquinas",
    "tasks": "tarefas",
    "time limit": "limite de tempo",
    "memory limit": "limite de memória",
    "submitted": "submetido",
    "expected start": "início previsto",
    "started": "iniciado",
    "ended": "terminado",
    "CPU time": "tempo de CPU",
    "most memory": "memória máxima",
    "CPU efficiency": "eficiência de CPU",
    "memory efficiency": "eficiência de memória",
    "directory": "diretório",
    "script": "script",
    "arguments": "argumentos",
    "depends on": "depende de",
    "output": "saída",
    "errors": "erros",
    "CPUs in use": "CPUs em uso",
    "memory": "memória",
    "Only your own jobs.": "Somente os seus jobs.",
    "Only jobs that are not over.": "Somente jobs que não terminaram.",
    "Only jobs in this state.": "Somente jobs neste estado.",
    "Only jobs of this account.": "Somente jobs desta conta.",
    "Only jobs in this queue.": "Somente jobs nesta fila.",
    "Only jobs with this name; * is any text.": "Somente jobs com este nome; * é qualquer texto.",
    "Only jobs that run this program.": "Somente jobs que executam este programa.",
    "Only jobs with this in the name, directory or id.": (
        "Somente jobs com isto no nome, no diretório ou no id."
    ),
    "Also jobs that ended long ago.": "Também jobs que terminaram há muito tempo.",
    "Show it anew every two seconds.": "Mostra de novo a cada dois segundos.",
    "Its name: USR1.": "O nome do sinal: USR1.",
    "Go on until the job is over.": "Continua até o job terminar.",
    "The standard error, not the output.": "A saída de erros, não a saída padrão.",
    "Only the last lines.": "Somente as últimas linhas.",
    "Give up after so many seconds.": "Desiste depois de tantos segundos.",
    "Start the service with the settings of the environment and of ./.env, and its state here.": (
        "Inicia o serviço com as configurações do ambiente e de ./.env, e o seu estado aqui."
    ),
    "Print the version.": "Imprime a versão.",
    'Print what makes your shell complete words: eval "$(hpcq completion bash)".': (
        'Imprime o que faz o seu shell completar palavras: eval "$(hpcq completion bash)".'
    ),
    "One REST API in front of the batch scheduler of your cluster.": (
        "Uma API REST diante do escalonador do seu cluster."
    ),
    "The service: a section of the profile file.": "O serviço: uma seção do arquivo de perfis.",
    "Your shell.": "O seu shell.",
    "List the installed programs.": "Lista os programas instalados.",
    "List the queues.": "Lista as filas.",
    "List the files of a job.": "Lista os arquivos de um job.",
    "A folder in its working directory.": "Uma pasta no diretório de trabalho dele.",
    "Name": "Nome",
    "Size": "Tamanho",
    "Changed": "Alterado",
    "There are more files than these.": "Há mais arquivos do que estes.",
    "Copy a file of a job to here.": "Copia um arquivo de um job para cá.",
    "A file in its working directory.": "Um arquivo no diretório de trabalho dele.",
    "Where to write it; its own name unless given.": (
        "Onde gravá-lo; o nome dele se nada for dado."
    ),
    "{target} is there already.": "{target} já existe.",
    "{target} cannot be written: {why}.": "{target} não pode ser gravado: {why}.",
    "List the hosts that run jobs.": "Lista as máquinas que executam jobs.",
    "Tell what happened to jobs so far, or with -f what happens.": (
        "Conta o que aconteceu aos jobs até agora, ou com -f o que acontece."
    ),
    "program": "programa",
    "version": "versão",
    "id": "id",
    "default": "padrão",
    "open": "aberta",
    "slots in use": "slots em uso",
    "node": "nó",
    "up": "ativo",
    "queues": "filas",
    "yes": "sim",
    "no": "não",
    "Only this program.": "Somente este programa.",
    "Only the events of this job.": "Somente os eventos deste job.",
    "Go on with what happens from now on.": "Continua com o que acontecer daqui em diante.",
    "Only these: job.state.": "Somente estes: job.state.",
    "Begin behind the event with this id.": "Começa depois do evento com este id.",
    "Submit a script or a program, and print the job's id.": (
        "Submete um script ou um programa e imprime o id do job."
    ),
    "--time takes seconds, 90m, 12h, 2d or 1:30:00.": (
        "--time aceita segundos, 90m, 12h, 2d ou 1:30:00."
    ),
    "Name a script, or a program with --program.": (
        "Indique um script, ou um programa com --program."
    ),
    "--array takes FIRST-LAST, as 1-12 or 1-12:2%4.": (
        "--array aceita PRIMEIRO-ÚLTIMO, como 1-12 ou 1-12:2%4."
    ),
    "command": "comando",
    "The job {job} is over: {state}.": "O job {job} terminou: {state}.",
    "Submitted: {job}.": "Submetido: {job}.",
    "The script; - reads it from standard input.": "O script; - lê da entrada padrão.",
    "A program, not a script.": "Um programa, em vez de um script.",
    "The program's version.": "A versão do programa.",
    "NAME=VALUE, an argument of the program.": "NOME=VALOR, um argumento do programa.",
    "The queue.": "A fila.",
    "The time limit: 90m, 12h, 2d, 1:30:00.": "O limite de tempo: 90m, 12h, 2d, 1:30:00.",
    "The memory limit of the job, GB.": "O limite de memória do job, GB.",
    "NAME=VALUE, a variable of the job.": "NOME=VALOR, uma variável do job.",
    "JOB or JOB:CONDITION, a job that has to come first.": (
        "JOB ou JOB:CONDIÇÃO, um job que tem de vir antes."
    ),
    "FIRST-LAST, also :STEP and %MOST at a time.": (
        "PRIMEIRO-ÚLTIMO, também :PASSO e %MÁXIMO ao mesmo tempo."
    ),
    "Wait until released.": "Espera até ser liberado.",
    "NAME=VALUE, any other field of the API.": "NOME=VALOR, qualquer outro campo da API.",
    "The same key never makes a second job.": "A mesma chave nunca cria um segundo job.",
    "Show what would run; submit nothing.": "Mostra o que seria executado; não submete nada.",
    "Wait for the end; exit as the job does.": "Espera o fim; sai como o job.",
    "Print its output; exit as the job does.": "Imprime a sua saída; sai como o job.",
    "directive": "diretiva",
    "variable": "variável",
    "--field takes the fields of the API, without {name}.": (
        "--field aceita os campos da API, sem {name}."
    ),
    "--key takes printable ASCII characters.": "--key aceita caracteres ASCII imprimíveis.",
    "What you gave is not text in UTF-8.": "O que você deu não é texto em UTF-8.",
    "{option} takes NAME=VALUE.": "{option} aceita NOME=VALOR.",
    "Make a token and print it. It is shown this once: the records hold only its hash.": (
        "Cria um token e o imprime. Ele só é mostrado desta vez: os registros guardam apenas "
        "o seu hash."
    ),
    "List all tokens: id, user, role, scopes, when it was made, and until when it is good.": (
        "Lista todos os tokens: id, usuário, papel, escopos, quando foi criado e até quando vale."
    ),
    "Make a token worthless. A running service notices within 5 s.": (
        "Torna um token inválido. Um serviço em execução percebe em até 5 s."
    ),
    "Make, list and revoke tokens.": "Cria, lista e revoga tokens.",
    "The name that jobs, logs and events show.": "O nome que jobs, logs e eventos mostram.",
    "What its bearer may do.": "O que o portador pode fazer.",
    "Its lifetime: hours, days or weeks, as 12h, 90d, 4w.": (
        "A sua validade: horas, dias ou semanas, como 12h, 90d, 4w."
    ),
    "Narrow it to this; may be given again.": "Restringe-o a isto; pode ser repetido.",
    "As `hpcq token list` shows it.": "Como `hpcq token list` o mostra.",
    "Waiting for the job {job}; Ctrl-C leaves it be.": (
        "Esperando o job {job}; Ctrl-C o deixa em paz."
    ),
    "The job {job} is not over yet.": "O job {job} ainda não terminou.",
    "{name} is not a name of letters, digits and . _ @ -": (
        "{name} não é um nome de letras, dígitos e . _ @ -"
    ),
    "{text} is not a lifetime such as 12h, 90d or 4w": (
        "{text} não é uma validade como 12h, 90d ou 4w"
    ),
    "There is no token {token}; `hpcq token list` shows all.": (
        "Não há o token {token}; `hpcq token list` mostra todos."
    ),
    "The token {token} is worthless now.": "O token {token} não vale mais.",
    "Tell whether the installation in this folder will work, and what to do where not.": (
        "Diz se a instalação nesta pasta vai funcionar, e o que fazer onde não."
    ),
    "Run a job through the service, too.": "Executa também um job através do serviço.",
    "good": "bom",
    "warning": "aviso",
    "problem": "problema",
    "unchecked": "não verificado",
    "Not checked, because of the problem above: {part}.": (
        "Não verificado, por causa do problema acima: {part}."
    ),
    "settings": "configuração do serviço",
    "The settings can be read: SCHEDULER={scheduler}.": (
        "A configuração pode ser lida: SCHEDULER={scheduler}."
    ),
    "locale": "localidade",
    "The locale {name} is not installed.": "A localidade {name} não está instalada.",
    "Set {variable}=C.UTF-8, or to another one that `locale -a` lists.": (
        "Defina {variable}=C.UTF-8, ou outra que `locale -a` lista."
    ),
    "The locale {name} writes UTF-8.": "A localidade {name} grava UTF-8.",
    "The locale {name} writes {encoding}, and the service UTF-8.": (
        "A localidade {name} grava {encoding}, e o serviço, UTF-8."
    ),
    "Set {variable}=C.UTF-8 for the service, lest jobs write names in another form.": (
        "Defina {variable}=C.UTF-8 para o serviço, para os jobs não gravarem nomes de outra forma."
    ),
    "umask": "umask",
    "With the umask {umask} others can change what jobs of LOCAL write.": (
        "Com a umask {umask} outros podem alterar o que os jobs do LOCAL gravam."
    ),
    "Set UMask=0022 or 0077 in the unit, or call `umask 0022` before `hpcq serve`.": (
        "Defina UMask=0022 ou 0077 na unidade, ou chame `umask 0022` antes de `hpcq serve`."
    ),
    "state directory": "pasta de estado",
    "audit log": "log de auditoria",
    "{account} cannot write {file}.": "{account} não pode gravar {file}.",
    "Call `install -d -m 700 -o {account} /var/log/hpcq` as root, and set "
    "AUDIT_LOG=/var/log/hpcq/audit.jsonl.": (
        "Execute `install -d -m 700 -o {account} /var/log/hpcq` como root, e defina "
        "AUDIT_LOG=/var/log/hpcq/audit.jsonl."
    ),
    "accounts": "contas",
    "Call `apt-get install sudo` as root, or run the service as root.": (
        "Execute `apt-get install sudo` como root, ou execute o serviço como root."
    ),
    "SUBMIT_AS=user: sudo does not let {account} run {program}.": (
        "SUBMIT_AS=user: o sudo não deixa {account} executar {program}."
    ),
    'Write `{account} ALL=(%GROUP) NOPASSWD: {program} ""` into /etc/sudoers.d/hpcq, with the '
    "group of all who may submit; the unit then needs NoNewPrivileges=no (setuid.conf).": (
        'Escreva `{account} ALL=(%GRUPO) NOPASSWD: {program} ""` em /etc/sudoers.d/hpcq, com o '
        "grupo de todos os que podem submeter; a unidade precisa então de NoNewPrivileges=no "
        "(setuid.conf)."
    ),
    "open files": "arquivos abertos",
    "The service may open {limit} files, too few for MAX_CONNECTIONS={most}.": (
        "O serviço pode abrir {limit} arquivos, poucos demais para MAX_CONNECTIONS={most}."
    ),
    "Set LimitNOFILE={needed} in the unit, or call `ulimit -n {needed}` before `hpcq serve`.": (
        "Defina LimitNOFILE={needed} na unidade, ou chame `ulimit -n {needed}` antes de "
        "`hpcq serve`."
    ),
    "{file} cannot be used: {why}.": "Não é possível usar {file}: {why}.",
    "{file} belongs to {owner}.": "{file} pertence a {owner}.",
    "Run the service, and this command, as that account, or give it the folder: "
    "chown -R {account} {file}": (
        "Execute o serviço, e este comando, com essa conta, ou dê-lhe a pasta: "
        "chown -R {account} {file}"
    ),
    "{file} is open to other accounts (mode {mode}).": (
        "{file} está aberta a outras contas (modo {mode})."
    ),
    "{file} belongs to this account alone.": "{file} pertence só a esta conta.",
    "{file} is made when the service starts.": "{file} é criada quando o serviço inicia.",
    "{file} cannot be made: this account may not write to {above}.": (
        "Não é possível criar {file}: esta conta não pode gravar em {above}."
    ),
    "Make it for this account, or set STATE_DIRECTORY.": (
        "Crie-a para esta conta, ou defina STATE_DIRECTORY."
    ),
    "{file} is on {kind}, where locks are not reliable.": (
        "{file} está em {kind}, onde as travas não são confiáveis."
    ),
    "Set STATE_DIRECTORY to a folder on a disk of this machine, as /var/lib/hpc-queue-api.": (
        "Dê a STATE_DIRECTORY uma pasta num disco desta máquina, como /var/lib/hpc-queue-api."
    ),
    "Only {free} MB are free for {file}.": "Só há {free} MB livres para {file}.",
    "Make room: the service takes no job when the disk is full.": (
        "Libere espaço: o serviço não aceita jobs quando o disco está cheio."
    ),
    "the file system of the state directory": "sistema de arquivos da pasta de estado",
    "The clock of {whose} is {apart} s apart from this machine's.": (
        "O relógio de {whose} está {apart} s afastado do desta máquina."
    ),
    "clock": "relógio",
    "Have all machines take their time from one source: `timedatectl set-ntp true` on each.": (
        "Faça todas as máquinas tomarem a hora de uma só fonte: `timedatectl set-ntp true` em cada "
        "uma."
    ),
    "address": "endereço",
    "Nothing can listen on {shown}: {why}.": "Nada pode escutar em {shown}: {why}.",
    "Set HOST and PORT to an address of this machine.": (
        "Dê a HOST e PORT um endereço desta máquina."
    ),
    "What listens on {shown} does not answer as this service.": (
        "O que escuta em {shown} não responde como este serviço."
    ),
    "Choose another PORT, or stop it: `ss -ltnp`, as root, names it. If it is this service, its "
    "log tells more: `journalctl -u hpc-queue-api`.": (
        "Escolha outra PORT, ou pare-o: `ss -ltnp`, como root, diz qual é. Se for este serviço, o "
        "seu log diz mais: `journalctl -u hpc-queue-api`."
    ),
    "The service on {shown} runs with SCHEDULER={scheduler}.": (
        "O serviço em {shown} está em execução com SCHEDULER={scheduler}."
    ),
    "Restart it, as with `systemctl restart hpc-queue-api`.": (
        "Reinicie-o, por exemplo com `systemctl restart hpc-queue-api`."
    ),
    "The service of the cluster {cluster} runs on {shown}.": (
        "O serviço do cluster {cluster} está em execução em {shown}."
    ),
    "None of {count} nodes takes jobs.": "Nenhum dos {count} nós aceita jobs.",
    "Bring one back, or no job will start.": "Traga um de volta, ou nenhum job começará.",
    "Start munge (`systemctl start munge`), and let {account} reach its socket in /run/munge.": (
        "Inicie o munge (`systemctl start munge`), e deixe {account} alcançar o socket dele em "
        "/run/munge."
    ),
    "Let {account} read slurm.conf, and the folder that it is in.": (
        "Deixe {account} ler o slurm.conf, e a pasta em que ele está."
    ),
    "Correct slurm.conf until `scontrol ping` answers {account}.": (
        "Corrija o slurm.conf até que `scontrol ping` responda a {account}."
    ),
    "Let {account} run it: `ls -l {path}` shows who may.": (
        "Deixe {account} executá-lo: `ls -l {path}` mostra quem pode."
    ),
    "{shown} is free.": "{shown} está livre.",
    "database": "banco de dados",
    "The database does not answer: {why}.": "O banco de dados não responde: {why}.",
    "Start it, or correct DATABASE_URL.": "Inicie-o, ou corrija DATABASE_URL.",
    "The database answers.": "O banco de dados responde.",
    "the database": "banco de dados",
    "scheduler": "escalonador",
    "commands": "comandos",
    "{count} jobs in the queue cannot be read: {why}": (
        "{count} jobs na fila não podem ser lidos: {why}"
    ),
    "The queue can be read: {count} jobs.": "A fila pode ser lida: {count} jobs.",
    "None of {count} queues is open.": "Nenhuma de {count} filas está aberta.",
    "Open one, or no job will start.": "Abra uma, ou nenhum job vai iniciar.",
    "Open queues: {names}.": "Filas abertas: {names}.",
    "accounting": "contabilidade",
    "The accounting answers.": "A contabilidade responde.",
    "submission": "submissão",
    "The scheduler would take a job.": "O escalonador aceitaria um job.",
    "configuration": "configuração do escalonador",
    "The scheduler has what the settings name.": "O escalonador tem o que a configuração nomeia.",
    "Start the service with `hpcq serve`, and look again.": (
        "Inicie o serviço com `hpcq serve`, e examine de novo."
    ),
    "The job {id} is still {state} after {seconds} s.": (
        "O job {id} ainda está {state} após {seconds} s."
    ),
    "The job {id} has failed.": "O job {id} falhou.",
    "the scheduler": "escalonador",
    "The job {id} has run within {seconds} s.": "O job {id} foi executado em {seconds} s.",
    "Put the folder of the scheduler's commands into SCHEDULER_PATH: without the command itself, "
    "and several with : between them.": (
        "Ponha a pasta dos comandos do escalonador em SCHEDULER_PATH: sem o próprio comando, e "
        "várias com : entre elas."
    ),
    "Start slurmctld (`scontrol ping` asks for it), or set SLURM_CONF to the path of the site's "
    "slurm.conf.": (
        "Inicie o slurmctld (`scontrol ping` pergunta por ele), ou dê a SLURM_CONF o caminho do "
        "slurm.conf do site."
    ),
    "Start sge_qmaster, or set SGE_ROOT and SGE_CELL: the file common/act_qmaster in the folder of "
    "the cell names its machine.": (
        "Inicie o sge_qmaster, ou defina SGE_ROOT e SGE_CELL: o arquivo common/act_qmaster na "
        "pasta da célula diz a máquina dele."
    ),
    "Start it, or point its commands to it: they have to answer {account} here.": (
        "Inicie-o, ou aponte os comandos para ele: eles têm de responder a {account} aqui."
    ),
    "Let {account} do this: `sacctmgr add user {account} account=ACCOUNT`, with one of "
    "`sacctmgr show account`.": (
        "Permita isso a {account}: `sacctmgr add user {account} account=ACCOUNT`, com uma de "
        "`sacctmgr show account`."
    ),
    "Let {account} do this from here: `qconf -as {host}`, and if need be `qconf -ao {account}`.": (
        "Permita isso a {account} daqui: `qconf -as {host}` e, se for preciso, "
        "`qconf -ao {account}`."
    ),
    "Let {account} do this, as an operator of the scheduler.": (
        "Permita isso a {account}, como operador do escalonador."
    ),
    "Start slurmdbd, until `sacct` answers {account}.": (
        "Inicie o slurmdbd, até que `sacct` responda a {account}."
    ),
    "Let {account} read the file common/accounting in the folder of the cell.": (
        "Deixe {account} ler o arquivo common/accounting na pasta da célula."
    ),
    "Start the accounting, and let {account} read it.": (
        "Inicie a contabilidade, e deixe {account} lê-la."
    ),
    "Run `{command}` as {account} to see more; then correct the scheduler.": (
        "Execute `{command}` como {account} para ver mais; depois corrija o escalonador."
    ),
}

REASONS: Mapping[str, str] = {
    "WAITING_FOR_RESOURCES": "Espera até que o que pede esteja livre.",
    "WAITING_FOR_PRIORITY": "Espera por jobs que vêm antes.",
    "WAITING_FOR_DEPENDENCY": "Espera pelos jobs de que depende.",
    "DEPENDENCY_NEVER_SATISFIED": "Um job de que depende não terminou como exigido.",
    "HELD_BY_USER": "Espera até que um usuário o libere.",
    "HELD_BY_OPERATOR": "Espera até que um operador do cluster o libere.",
    "HELD_BY_SYSTEM": "O próprio escalonador o reteve.",
    "LIMIT_REACHED": "Espera por causa de um limite do que pode ser executado ao mesmo tempo.",
    "QUEUE_CLOSED": "A sua fila não inicia jobs.",
    "NOT_BEFORE_TIME": "Espera por um horário.",
    "NODES_UNAVAILABLE": "Espera por máquinas que estão fora do ar ou reservadas.",
    "CANNOT_RUN": "Pede mais do que existe, ou o que não pode ter.",
    "REQUEUED": "Voltou à fila e espera de novo.",
    "NON_ZERO_EXIT": "Terminou com um código de saída diferente de 0.",
    "SIGNAL": "Foi encerrado por um sinal.",
    "TIME_LIMIT": "Ultrapassou o limite de tempo.",
    "OUT_OF_MEMORY": "Faltou memória.",
    "CANCELLED": "Foi cancelado.",
    "NODE_FAILURE": "A máquina em que era executado falhou.",
    "SCHEDULER_ERROR": "O escalonador falhou.",
}

# By the code of a problem, or by the class of an error without one.
ERRORS: Mapping[str, str] = {
    "invalid_content": "O conteúdo do pedido está errado",
    "invalid_webhook": "O conteúdo do pedido não pode ser um webhook",
    "not_authenticated": "Não se sabe quem pede",
    "provider_unavailable": "O provedor de identidade está fora do ar",
    "not_authorized": "Não permitido",
    "job_not_found": "Não há esse job",
    "webhook_not_found": "Não há esse webhook",
    "events_gone": "Esses eventos não são mais guardados",
    "queue_not_found": "Não há essa fila",
    "no_such_file": "O job não tem esse arquivo",
    "in_progress": "A mesma submissão está em andamento",
    "idempotency_key_reused": "A chave nomeia outra submissão",
    "wrong_state": "O estado do job não permite isso",
    "partly_changed": "Parte das alterações foi feita",
    "quota_exceeded": "Um limite do site foi atingido",
    "too_many_requests": "Pedidos demais em um segundo",
    "unsupported": "O escalonador não sabe fazer isso",
    "submission_unclear": "O job pode existir ou não",
    "scheduler_timeout": "O escalonador não respondeu a tempo",
    "scheduler_unavailable": "O escalonador está fora do ar",
    "scheduler_unreadable": "A resposta do escalonador é ilegível",
    "scheduler_refused": "O escalonador recusou",
    "overloaded": "O serviço está no seu limite",
    "account_unavailable": "O serviço não pode agir em nome da conta",
    "path_unavailable": "Um sistema de arquivos não responde",
    "store_unavailable": "Os registros não podem ser usados",
    "not_found": "Não há essa rota",
    "method_not_allowed": "A rota não conhece esse método",
    "request_timeout": "O pedido não chegou a tempo",
    "range_not_satisfiable": "O intervalo está fora do arquivo",
    "wrong_host": "O serviço não tem esse nome",
    "body_too_large": "O corpo do pedido é grande demais",
    "url_too_long": "A URL é longa demais",
    "wrong_shape": "O pedido tem a forma errada",
    "headers_too_large": "Os cabeçalhos do pedido são grandes demais",
    "internal_error": "O serviço tem um defeito",
    "not_ready": "O serviço não está pronto",
    "ProfileError": "O endereço ou o perfil está errado",
    "Unreachable": "Nenhum serviço responde",
    "Unreadable": "Algo que não é este serviço respondeu",
}
